//! Service names, from /etc/services.

use std::fs;

use crate::scenario::Transport;

/// The name of a port in /etc/services, if it has one.
pub fn name(port: u16, transport: Transport) -> Option<String> {
    find(&fs::read_to_string("/etc/services").ok()?, port, transport).map(str::to_owned)
}

/// Lines are `name port/protocol [alias…] [# comment]`.
pub fn find(text: &str, port: u16, transport: Transport) -> Option<&str> {
    let protocol = match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    };
    text.lines().find_map(|line| {
        let mut fields = line.split('#').next()?.split_whitespace();
        let name = fields.next()?;
        let (number, over) = fields.next()?.split_once('/')?;
        (over == protocol && number.parse() == Ok(port)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_by_port_and_protocol() {
        let text = "# services\n\nhttp\t\t80/tcp\t\twww\t# WorldWideWeb\ndomain 53/tcp\ndomain 53/udp\n#old 81/tcp\n";
        assert_eq!(find(text, 80, Transport::Tcp), Some("http"));
        assert_eq!(find(text, 80, Transport::Udp), None);
        assert_eq!(find(text, 53, Transport::Udp), Some("domain"));
        assert_eq!(find(text, 81, Transport::Tcp), None);
    }
}
