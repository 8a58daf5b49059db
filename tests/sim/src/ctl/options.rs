//! The command line of `nvidia-imex-ctl`.
#![forbid(unsafe_code)]

use crate::config::DEFAULT_PATH;
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// What `-h` prints.
pub const USAGE: &str = "\
nvidia-imex-ctl (simulated): asks a simulated nvidia-imex of the slurm-nvlink test cluster

Usage: nvidia-imex-ctl [-c FILE | -i IP PORT | -u SOCKET] <-q | -N | -n> [-j] [-H]
  -q            state of the daemon, one word
  -N            state of the domain, once
  -n            state of the domain, again at each change until interrupted
  -H            host names too; alone it means -N
  -j            the domain as JSON
  -c FILE       config file, default /etc/nvidia-imex/config.cfg
  -i IP PORT    ask the command service at this address
  -u SOCKET     ask the command service at this Unix socket (also --u=SOCKET)
      --version print the version
  -h            print this text
";

/// What to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// `-q`.
    State,
    /// `-N`.
    Domain,
    /// `-n`.
    Follow,
}

/// Whom to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The command service that this config file describes.
    Config(PathBuf),
    /// `-i`.
    Address(SocketAddr),
    /// `-u`.
    Socket(PathBuf),
}

/// A complete command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// What.
    pub ask: Ask,
    /// Whom.
    pub target: Target,
    /// `-j`.
    pub json: bool,
    /// `-H`.
    pub host_names: bool,
}

/// What the user wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// `-h`, or something that is not understood.
    Usage,
    /// `--version`.
    Version,
    /// A query.
    Query(Options),
}

/// Reads the arguments after the program's name.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Request {
    query(arguments.into_iter()).unwrap_or(Request::Usage)
}

fn query(mut rest: impl Iterator<Item = OsString>) -> Option<Request> {
    let (mut ask, mut json, mut host_names) = (None, false, false);
    let mut target = Target::Config(PathBuf::from(DEFAULT_PATH));
    while let Some(argument) = rest.next() {
        let text = argument.to_string_lossy();
        match text.as_ref() {
            "--version" => return Some(Request::Version),
            "-q" => ask = Some(Ask::State),
            "-N" => ask = Some(Ask::Domain),
            "-n" => ask = Some(Ask::Follow),
            "-j" => json = true,
            "-H" => host_names = true,
            "-c" => target = Target::Config(rest.next()?.into()),
            "-u" => target = Target::Socket(rest.next()?.into()),
            "-i" => {
                let ip: IpAddr = rest.next()?.to_str()?.parse().ok()?;
                let port: u16 = rest.next()?.to_str()?.parse().ok()?;
                target = Target::Address(SocketAddr::new(ip, port));
            }
            _ => target = Target::Socket(text.strip_prefix("--u=")?.into()),
        }
    }
    let ask = ask.or(host_names.then_some(Ask::Domain))?;
    Some(Request::Query(Options { ask, target, json, host_names }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Request {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn asked(line: &str) -> Options {
        match parsed(line) {
            Request::Query(options) => options,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn queries_are_read() {
        assert_eq!(asked("-q").ask, Ask::State);
        assert_eq!(asked("-q").target, Target::Config(DEFAULT_PATH.into()));
        assert_eq!(asked("-q --u=/s").target, Target::Socket("/s".into()));
        assert_eq!(asked("-u /s -n").target, Target::Socket("/s".into()));
        assert_eq!(
            asked("-q -i 127.0.0.1 50005").target,
            Target::Address("127.0.0.1:50005".parse().unwrap())
        );
        assert_eq!(asked("-i fd00::1 7 -q").target, Target::Address("[fd00::1]:7".parse().unwrap()));
        let full = asked("-c /x -N -j -H");
        assert_eq!((full.ask, full.json, full.host_names), (Ask::Domain, true, true));
        assert_eq!(asked("-H").ask, Ask::Domain);
        assert_eq!(parsed("--version"), Request::Version);
    }

    #[test]
    fn anything_else_is_usage() {
        for line in ["", "-h", "--help", "-x", "-c", "-q -i 127.0.0.1", "-q -i host 5", "-j"] {
            assert_eq!(parsed(line), Request::Usage, "{line}");
        }
    }
}
