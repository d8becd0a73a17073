//! `listenbench new`: a commented scenario to start from.

use std::{fs, io::Write, path::Path};

use anyhow::{Context, Result};
use toml::Value;

use super::{Ended, Usage, load, say, sources};
use crate::{
    cli::{self, Host, Target, Whose},
    record::remedy,
    sys::folder::Folder,
};

/// Runs the command.
pub fn run(options: &cli::New) -> Result<Ended> {
    let text = match (options.whose, &options.at) {
        (Whose::Own, None) => include_str!("new/own.toml").to_owned(),
        (Whose::Command, None) => include_str!("new/command.toml").to_owned(),
        (Whose::Running, Some(target)) => of_running(target)?,
        (Whose::Running, None) => unreachable!("clap demands --at"),
        (_, Some(_)) => return Err(Usage("--at is for a server that runs: add --for running".to_owned()).into()),
    };
    match options.file.as_deref().filter(|file| *file != Path::new(sources::STDOUT)) {
        None => say(text.trim_end())?,
        Some(file) => {
            write(file, &text)?;
            let file = shlex::try_quote(file.to_str().unwrap_or_default()).unwrap_or_default();
            say(format_args!("wrote {file}; run it: listenbench run {file}"))?;
        }
    }
    Ok(Ended::Done)
}

/// The scenario for a server that runs.
fn of_running(target: &Target) -> Result<String> {
    if let Host::Unix(address) = &target.host {
        return Err(Usage(format!(
            "--at {address}: the scenario that this writes closes connections as TCP does: begin with `listenbench show load`, and set \
             address = \"{address}\", network = \"host\" and server.subject = \"running\""
        ))
        .into());
    }
    let address = load::address_of(target)?;
    let path = target.url.as_ref().and_then(|url| url.path.as_deref()).unwrap_or("/");
    let is_secured = target.url.as_ref().is_some_and(|url| url.is_secured);
    let app = if is_secured { "\napp = \"https\" " } else { "\napp = \"http\" " };
    let name = match &target.host {
        Host::Name(name) if is_secured => {
            format!("\nserver_name = {}    # what the certificate is to have", Value::from(&name[..]))
        }
        _ => String::new(),
    };
    let host = target.authority().map(|host| format!("\nhost = {}    # the Host header", Value::from(host)));
    Ok(include_str!("new/running.toml")
        .replace("{address}:{port}", &address.to_string())
        .replace("\"{address}\"", &Value::from(address.ip().to_string()).to_string())
        .replace("{port}", &address.port().to_string())
        .replace("\napp = \"http\" ", app)
        .replace("\"{path}\"{host}", &format!("{}{}{name}", Value::from(path), host.unwrap_or_default())))
}

/// Writes a file that did not exist.
fn write(file: &Path, text: &str) -> Result<()> {
    if fs::symlink_metadata(file).is_ok() {
        let name = file.display();
        return Err(Usage(format!("{name} exists already, and is left as it is: name another file")).into());
    }
    let above = file.parent().filter(|above| !above.as_os_str().is_empty() && !above.exists());
    if let Some(above) = above {
        let (file, above) = (file.display(), above.display());
        return Err(
            Usage(format!("{file}: the folder {above} does not exist: create it first, or name another file")).into()
        );
    }
    let (folder, name) = Folder::of_file(file).with_context(|| format!("{}", file.display()))?;
    let written = folder.create_new(&name).and_then(|mut opened| {
        let written = opened.write_all(text.as_bytes());
        written.inspect_err(|_| drop(folder.remove(&name)))
    });
    written.map_err(|error| anyhow::anyhow!("writing {}: {error}: {}", file.display(), remedy(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::UnderTest;

    fn planned(text: String) -> crate::scenario::Plan {
        let text = sources::Text::of_binary("new.toml", text.leak());
        sources::plan(&text, &[]).unwrap()
    }

    #[test]
    fn every_new_scenario_is_a_scenario() {
        let own = planned(include_str!("new/own.toml").to_owned());
        assert_eq!((own.cells.len(), own.trials.len()), (2, 12));
        assert!(own.cells[0].scenario.subject.is_own());
        let command = planned(include_str!("new/command.toml").to_owned());
        assert!(matches!(command.cells[0].scenario.subject, UnderTest::Command(_)));
        for (target, address, path, host) in [
            ("http://127.0.0.1:8080/a?b=%20", "127.0.0.1:8080", "/a?b=%20", Some("127.0.0.1:8080")),
            ("[::1]:81", "[::1]:81", "/", Some("[::1]:81")),
            ("http://127.0.0.1", "127.0.0.1:80", "/", Some("127.0.0.1")),
        ] {
            let running = planned(of_running(&target.parse().unwrap()).unwrap());
            let scenario = &running.cells[0].scenario;
            assert_eq!((scenario.address, running.cells.len()), (address.parse().unwrap(), 3), "{target}");
            let http = &scenario.loads[0].http;
            assert_eq!((&http.path[..], http.host.as_deref()), (path, host), "{target}");
        }
        let secured = planned(of_running(&"https://localhost/".parse().unwrap()).unwrap());
        let scenario = &secured.cells[0].scenario;
        let name = scenario.loads[0].security.as_ref().and_then(|security| security.server_name.as_deref());
        assert_eq!((scenario.address.port(), name), (443, Some("localhost")));
    }

    /// What is commented out works, too, once it is not.
    #[test]
    fn what_is_commented_out_is_right() {
        let own = include_str!("new/own.toml");
        let event = own.split_once("# [[event]]\n").unwrap().1.replace("# ", "");
        planned(format!("{own}\n[[event]]\n{event}"));
        planned(own.replace("# service_distribution", "service_distribution"));
        let swept = own.replace("# load.rate", "load.rate").replace("rate = 2000.0 ", "# ");
        assert_eq!(planned(swept).cells.len(), 6);
    }
}
