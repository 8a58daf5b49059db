//! The command line of `nvidia-imex`.
#![forbid(unsafe_code)]

use crate::config::DEFAULT_PATH;
use std::ffi::OsString;
use std::path::PathBuf;

/// What `--help` prints.
pub const USAGE: &str = "\
nvidia-imex (simulated): stands in for NVIDIA's IMEX daemon in the slurm-nvlink test cluster

Usage: nvidia-imex [options]
  -c FILE          config file, default /etc/nvidia-imex/config.cfg
  -p, --port PORT  peer port, instead of SERVER_PORT
      --nogpu      run without GPU and driver
      --version    print the version
      --help       print this text
";

/// What the user asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Print the usage.
    Help,
    /// Print the version.
    Version,
    /// Run.
    Run(Options),
}

/// How to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Config file.
    pub config: PathBuf,
    /// Instead of SERVER_PORT.
    pub port: Option<u16>,
    /// Without GPU and driver.
    pub no_gpu: bool,
}

/// A command line that is not understood; the text says which part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OptionError(String);

/// Reads the arguments after the program's name.
///
/// # Errors
/// An unknown option, or one without its value.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Request, OptionError> {
    let mut options = Options { config: PathBuf::from(DEFAULT_PATH), port: None, no_gpu: false };
    let mut rest = arguments.into_iter();
    while let Some(argument) = rest.next() {
        let text = argument.to_string_lossy();
        match text.as_ref() {
            "--help" | "-h" => return Ok(Request::Help),
            "--version" => return Ok(Request::Version),
            "--nogpu" | "-nogpu" => options.no_gpu = true,
            "-c" => options.config = rest.next().ok_or_else(|| missing("-c", "a file"))?.into(),
            "-p" | "--port" => {
                let value = rest.next().ok_or_else(|| missing(&text, "a port"))?;
                options.port = Some(port(&value.to_string_lossy())?);
            }
            _ => match text.strip_prefix("--port=") {
                Some(value) => options.port = Some(port(value)?),
                None => return Err(OptionError(format!("unknown option '{text}'"))),
            },
        }
    }
    Ok(Request::Run(options))
}

fn missing(option: &str, what: &str) -> OptionError {
    OptionError(format!("option '{option}' needs {what}"))
}

fn port(text: &str) -> Result<u16, OptionError> {
    text.parse().map_err(|_| OptionError(format!("'{text}' is no port (0 to 65535)")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Request, OptionError> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn options_are_read() {
        let run =
            |config: &str, port, no_gpu| Ok(Request::Run(Options { config: config.into(), port, no_gpu }));
        assert_eq!(parsed(""), run(DEFAULT_PATH, None, false));
        assert_eq!(parsed("-c /x -p 5"), run("/x", Some(5), false));
        assert_eq!(parsed("--port=6 -nogpu"), run(DEFAULT_PATH, Some(6), true));
        assert_eq!(parsed("--port 7 --nogpu"), run(DEFAULT_PATH, Some(7), true));
        assert_eq!(parsed("--version"), Ok(Request::Version));
        assert_eq!(parsed("-c /x --help"), Ok(Request::Help));
    }

    #[test]
    fn mistakes_are_named() {
        let text = |line| parsed(line).unwrap_err().to_string();
        assert_eq!(text("-c"), "option '-c' needs a file");
        assert_eq!(text("-p 70000"), "'70000' is no port (0 to 65535)");
        assert_eq!(text("--frobnicate"), "unknown option '--frobnicate'");
    }
}
