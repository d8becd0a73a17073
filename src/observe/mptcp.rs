//! Whether this kernel has Multipath TCP, in the network of the calling process.

use socket2::Domain;

use crate::sys::socket;

/// Why connections by MPTCP cannot be made and counted in the calling process's network, with the remedy; `None` if they can.
pub fn lack() -> Option<String> {
    match socket::stream(Domain::IPV4, true) {
        Ok(socket) if socket::is_multipath(&socket) == Some(true) => None,
        Ok(_) => Some(
            "getsockopt(MPTCP_INFO): this kernel does not say which connections fall back, which takes Linux 5.16 or later: use another kernel, or \
             protocol = \"tcp\""
                .to_owned(),
        ),
        Err(error) => {
            Some(format!("socket(IPPROTO_MPTCP): {error}; {}", error.raw_os_error().map_or_else(general, remedy)))
        }
    }
}

/// Whether socket(2) fails with this errno where there is no MPTCP.
pub fn is_lack(errno: i32) -> bool {
    matches!(errno, libc::EPROTONOSUPPORT | libc::ENOPROTOOPT)
}

/// What to do where socket(2) fails with this errno for MPTCP.
pub fn remedy(errno: i32) -> String {
    match errno {
        libc::EPROTONOSUPPORT => {
            "this kernel has no MPTCP, which takes Linux 5.16 or later with CONFIG_MPTCP: use another kernel, or protocol = \"tcp\"".to_owned()
        }
        libc::ENOPROTOOPT => "MPTCP is switched off in this network: set \"net.mptcp.enabled\" = 1 in [sysctl] or, with network = \"host\", by \
                              `sysctl -w net.mptcp.enabled=1`"
            .to_owned(),
        _ => general(),
    }
}

fn general() -> String {
    "run outside the sandbox that forbids it, or use protocol = \"tcp\"".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_is_told_from_other_failures() {
        let of = |errno| (is_lack(errno), remedy(errno));
        assert!(of(libc::EPROTONOSUPPORT).0 && of(libc::EPROTONOSUPPORT).1.contains("CONFIG_MPTCP"));
        assert!(of(libc::ENOPROTOOPT).0 && of(libc::ENOPROTOOPT).1.contains("net.mptcp.enabled=1"));
        assert!(!of(libc::EMFILE).0 && of(libc::EACCES).1.contains("sandbox"));
        if let Some(lack) = lack() {
            assert!(lack.contains("MPTCP"), "{lack}");
        }
    }
}
