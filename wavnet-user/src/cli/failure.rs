//! How commands fail: exit code, message with all causes, and what to do.

use std::{ffi::OsString, io, path::PathBuf};

use serde_json::json;

use crate::{
    api::{BindError, ClientError, ErrorCode, Refusal, model::Problem},
    config::{ConfigError, ConfigErrors, KeyFileError},
    nat::NatError,
    rendezvous::{SocketError, StoreError},
};

/// Exit codes beside 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// Failed.
    Failed = 1,
    /// Wrong usage; clap's own, too.
    Usage = 2,
    /// No agent is running.
    NotRunning = 3,
    /// Refused: invalid configuration or value, or a conflict.
    Refused = 4,
}

/// Wrong usage that clap cannot see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Usage(pub(super) String);

/// Nobody listens where a rendezvous server should.
#[derive(Debug, thiserror::Error)]
#[error("no rendezvous server is running on {}", .0.display())]
pub(super) struct ServerNotRunning(pub(super) PathBuf);

impl ServerNotRunning {
    const HELP: &str =
        "start it with `wavnet rendezvous`, or say with --config, --socket or --run-dir which one you mean";
}

/// A key would be written over another one.
#[derive(Debug, thiserror::Error)]
#[error("{} exists, and no key is written over another file", .0.display())]
pub(super) struct FileExists(pub(super) PathBuf);

impl FileExists {
    const HELP: &str = "choose another name, or move the old one away: whoever needs the old key loses access with it";
}

fn refusal(code: ErrorCode) -> Exit {
    match code {
        ErrorCode::Invalid | ErrorCode::NotFound | ErrorCode::Conflict | ErrorCode::Full => Exit::Refused,
        ErrorCode::Stopping => Exit::NotRunning,
        ErrorCode::BadRequest | ErrorCode::UnsupportedVersion | ErrorCode::Failed | ErrorCode::Busy => Exit::Failed,
    }
}

/// A file that cannot be read. The service managers' units do not start again what was refused: only what a file is, where it is and who may
/// read it does not mend itself; a disk that fails, or descriptors that are used up, may.
fn unread(source: &io::Error) -> Exit {
    use io::ErrorKind::{
        FileTooLarge, InvalidData, InvalidFilename, InvalidInput, IsADirectory, NotADirectory, NotFound,
        PermissionDenied,
    };
    match source.kind() {
        NotFound | PermissionDenied | NotADirectory | IsADirectory | InvalidFilename | InvalidInput | InvalidData
        | FileTooLarge => Exit::Refused,
        _ => Exit::Failed,
    }
}

/// The exit code of an error, by its cause.
pub(super) fn exit(error: &anyhow::Error) -> Exit {
    for cause in error.chain() {
        if let Some(e) = cause.downcast_ref::<ClientError>() {
            return match e {
                ClientError::NotRunning(_) => Exit::NotRunning,
                ClientError::Refused(r) => refusal(r.code),
                ClientError::Denied(_) | ClientError::Protocol(_) | ClientError::Io(_) => Exit::Failed,
            };
        }
        if let Some(ConfigError::Read { source, .. }) = cause.downcast_ref() {
            return unread(source);
        }
        if let Some(KeyFileError::Read { source, .. }) = cause.downcast_ref() {
            return unread(source);
        }
        let of_config = matches!(cause.downcast_ref(), Some(BindError::Group(_)));
        if of_config || cause.is::<ConfigError>() || cause.is::<ConfigErrors>() {
            return Exit::Refused;
        }
        if cause.is::<ServerNotRunning>() {
            return Exit::NotRunning;
        }
        let no_interface = matches!(cause.downcast_ref(), Some(NatError::NoInterface(_)));
        if no_interface || cause.is::<KeyFileError>() || cause.is::<FileExists>() {
            return Exit::Refused;
        }
        if cause.is::<Usage>() {
            return Exit::Usage;
        }
    }
    Exit::Failed
}

/// What to do about an error.
fn help(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        if let Some(e) = cause.downcast_ref::<ClientError>() {
            return client_help(e);
        }
        if let Some(e) = cause.downcast_ref::<ConfigError>() {
            return unread_help(e);
        }
        let own = cause.downcast_ref::<KeyFileError>().map(KeyFileError::help);
        let own = own.or_else(|| cause.downcast_ref::<SocketError>().map(SocketError::help));
        let own = own.or_else(|| cause.downcast_ref::<StoreError>().map(StoreError::help));
        let own = own.or_else(|| cause.downcast_ref::<NatError>().map(NatError::help));
        let own = own.or_else(|| cause.is::<ServerNotRunning>().then_some(ServerNotRunning::HELP));
        own.or_else(|| cause.is::<FileExists>().then_some(FileExists::HELP)).map(str::to_owned)
    })
}

fn unread_help(error: &ConfigError) -> Option<String> {
    let ConfigError::Read { source, .. } = error else { return None };
    match source.kind() {
        io::ErrorKind::NotFound => Some(
            "name a file that exists, or run without one, by flags; docs/wavnet.example.toml is one to start from for an agent, \
             docs/wavnet-rendezvous.example.toml for a rendezvous server"
                .into(),
        ),
        io::ErrorKind::PermissionDenied => Some("run this as a user who may read it".into()),
        _ => None,
    }
}

fn client_help(error: &ClientError) -> Option<String> {
    match error {
        ClientError::NotRunning(_) => Some(
            "start it with `wavnet agent`, or say with --socket or --run-dir which one you mean; \
             what is pinned goes on forwarding without it"
                .into(),
        ),
        ClientError::Denied(_) => {
            Some("use sudo, or let socket_group and socket_mode of its configuration admit you".into())
        }
        ClientError::Refused(Refusal { help, .. }) => help.clone(),
        ClientError::Protocol(_) => Some("use the `wavnet` program of the same release as the one that runs".into()),
        ClientError::Io(_) => Some("look at the log of the agent, or of the rendezvous server".into()),
    }
}

/// The error as text for people.
pub(super) fn text(error: &anyhow::Error) -> String {
    let mut out = String::new();
    let mut causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    // Transparent errors repeat their cause.
    causes.dedup();
    // Configuration errors bring lines, carets and their own "error:".
    let first = causes.first().map_or("", String::as_str);
    if !first.starts_with("error: ") {
        out.push_str("error: ");
    }
    out.push_str(&causes.join("\n  because: "));
    if let Some(help) = help(error) {
        out.push_str("\n  help: ");
        out.push_str(&help);
    }
    out.push('\n');
    out
}

/// The error as JSON for programs: `{"error": {"exit", "message", "help"}}`; for a wrong configuration also `errors`, a list
/// of `{"file", "line", "column", "key", "message", "help"}`.
pub(super) fn json(error: &anyhow::Error) -> String {
    let mut causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    causes.dedup();
    let mut value = json!({"exit": exit(error) as u8, "message": causes.join(": "), "help": help(error)});
    if let Some(wrong) = config_errors(error) {
        value["message"] = wrong.summary().into();
        value["errors"] = json!(wrong.problems());
    } else if let Some(errors) = refused_for(error) {
        value["errors"] = json!(errors);
    }
    format!("{}\n", json!({ "error": value }))
}

/// The errors of the file for which the agent refused to reload it.
fn refused_for(error: &anyhow::Error) -> Option<&[Problem]> {
    let errors = error.chain().find_map(|cause| match cause.downcast_ref::<ClientError>() {
        Some(ClientError::Refused(refusal)) => Some(refusal.errors.as_slice()),
        _ => None,
    });
    errors.filter(|errors| !errors.is_empty())
}

fn config_errors(error: &anyhow::Error) -> Option<&ConfigErrors> {
    error.chain().find_map(|cause| match cause.downcast_ref::<ConfigError>() {
        Some(ConfigError::Invalid(errors)) => Some(errors),
        Some(ConfigError::Read { .. }) => None,
        None => cause.downcast_ref::<ConfigErrors>(),
    })
}

/// Whether the command line, which cannot be parsed, asks for JSON.
pub(super) fn wants_json(args: impl Iterator<Item = OsString>) -> bool {
    args.take_while(|arg| arg != "--").any(|arg| arg == "--json")
}

/// What clap says about wrong usage, as JSON.
pub(super) fn usage_json(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let end = ["\n\nUsage:", "\n\nFor more information"].iter().filter_map(|mark| text.find(mark)).min();
    let message = &text[..end.unwrap_or(text.len())];
    let message = message.strip_prefix("error: ").unwrap_or(message).trim();
    let error = json!({"exit": Exit::Usage as u8, "message": message, "help": "see `wavnet --help`"});
    format!("{}\n", json!({ "error": error }))
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;
    use crate::config::Config;

    #[test]
    fn codes_follow_the_cause() {
        let error = |e: ClientError| anyhow::Error::from(e);
        let refused = |code| error(ClientError::Refused(Refusal::new(code, "no")));
        assert_eq!(exit(&error(ClientError::NotRunning("/x".into())).context("asking")), Exit::NotRunning);
        assert_eq!(exit(&refused(ErrorCode::Conflict)), Exit::Refused);
        assert_eq!(exit(&refused(ErrorCode::Failed)), Exit::Failed);
        assert_eq!(exit(&refused(ErrorCode::Stopping)), Exit::NotRunning);
        assert_eq!(exit(&anyhow::anyhow!("x")), Exit::Failed);
        assert_eq!(exit(&Usage("x".into()).into()), Exit::Usage);
        let config = Config::parse("x", "f").map_err(ConfigError::Invalid).context("reading").unwrap_err();
        assert_eq!(exit(&config), Exit::Refused);
    }

    #[test]
    fn a_file_that_may_be_readable_later_is_worth_another_start() {
        let code = |source: fn() -> io::Error| {
            let config: anyhow::Error = ConfigError::Read { path: "/etc/wavnet.toml".into(), source: source() }.into();
            let key = KeyFileError::Read { what: "the secret key", path: "/k".into(), source: source() };
            [exit(&config), exit(&anyhow::Error::from(key).context("starting"))]
        };
        for passing in [|| io::Error::from_raw_os_error(nix::libc::EIO), || io::ErrorKind::TimedOut.into()] {
            assert_eq!(code(passing), [Exit::Failed; 2], "{}", passing());
        }
        let lasting: [fn() -> io::Error; 4] = [
            || io::ErrorKind::NotFound.into(),
            || io::ErrorKind::PermissionDenied.into(),
            || io::ErrorKind::IsADirectory.into(),
            || io::ErrorKind::InvalidData.into(),
        ];
        for lasting in lasting {
            assert_eq!(code(lasting), [Exit::Refused; 2], "{}", lasting());
        }
    }

    #[test]
    fn programs_get_the_place_of_every_error() {
        let text = "[underlay]\ninterface = 7\nadress = \"x\"\n";
        let e = Config::parse(text, "/etc/wavnet.toml").map_err(ConfigError::Invalid).context("reading").unwrap_err();
        let value: serde_json::Value = serde_json::from_str(&json(&e)).unwrap();
        assert_eq!(value["error"]["message"], "/etc/wavnet.toml has 2 errors");
        let first = &value["error"]["errors"][0];
        assert_eq!(
            (&first["file"], &first["line"], &first["column"]),
            (&"/etc/wavnet.toml".into(), &2.into(), &13.into())
        );
        assert_eq!(first["key"], "underlay.interface");
        assert!(!first["message"].as_str().unwrap().is_empty());
        // The same from an agent that refuses to take the file.
        let Some(ConfigError::Invalid(wrong)) = e.downcast_ref() else { panic!("{e:#}") };
        let refusal = Refusal { errors: wrong.problems(), ..Refusal::new(ErrorCode::Invalid, wrong.to_string()) };
        let from_agent: serde_json::Value = serde_json::from_str(&json(&ClientError::Refused(refusal).into())).unwrap();
        assert_eq!(from_agent["error"]["errors"], value["error"]["errors"]);
        assert_eq!(from_agent["error"]["exit"], 4);
    }

    #[test]
    fn a_file_that_is_not_there_comes_with_advice() {
        let read = |kind: io::ErrorKind| {
            anyhow::Error::from(ConfigError::Read { path: "/etc/wavnet.toml".into(), source: kind.into() })
        };
        let missing = text(&read(io::ErrorKind::NotFound));
        assert!(missing.starts_with("error: cannot read the configuration /etc/wavnet.toml\n  because: "), "{missing}");
        assert!(missing.contains("\n  help: name a file that exists"), "{missing}");
        assert!(text(&read(io::ErrorKind::PermissionDenied)).contains("help: run this as"));
        assert!(help(&read(io::ErrorKind::InvalidData)).is_none());
    }

    #[test]
    fn wrong_usage_is_json_if_asked_for() {
        use clap::Parser;
        let args = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>().into_iter();
        assert!(wants_json(args("wavnet --json dance")) && !wants_json(args("wavnet dance -- --json")));
        let e = super::super::args::Cli::try_parse_from(["wavnet", "--json", "dance"]).unwrap_err();
        let value: serde_json::Value = serde_json::from_str(&usage_json(&e)).unwrap();
        assert_eq!(value["error"]["exit"], 2);
        assert_eq!(value["error"]["message"], "unrecognized subcommand 'dance'");
    }

    #[test]
    fn the_whole_chain_is_shown_once_with_help() {
        let refusal = Refusal::new(ErrorCode::Conflict, "port tap0 belongs to VNI 100").with_help("remove it first");
        let e = anyhow::Error::from(ClientError::Refused(refusal)).context("adding the port");
        assert_eq!(
            text(&e),
            "error: adding the port\n  because: port tap0 belongs to VNI 100\n  help: remove it first\n"
        );
        let value: serde_json::Value = serde_json::from_str(&json(&e)).unwrap();
        assert_eq!(value["error"]["exit"], 4);
        assert_eq!(value["error"]["help"], "remove it first");
    }
}
