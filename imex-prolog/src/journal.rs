//! The system's journal, by its native protocol: one datagram for each event, fields as `KEY=value` lines.
//!
//! After systemd's "Native Journal Protocol". A value with a line break has its length in front. Nothing here waits or
//! fails: where there is no journal, or it is full, the log file has the words.
#![forbid(unsafe_code)]

use std::fmt::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Longest text in one event, in bytes; a datagram of more than the socket's buffer would be refused as a whole.
const TEXT_MAX: usize = 32 << 10;

/// A connected journal.
#[derive(Debug)]
pub struct Journal {
    socket: UnixDatagram,
    identifier: &'static str,
}

impl Journal {
    /// Connects to the journal's socket; `None` where there is none. `identifier` is what `journalctl -t` takes.
    #[must_use]
    pub fn connect(path: &Path, identifier: &'static str) -> Option<Self> {
        let socket = UnixDatagram::unbound().ok()?;
        socket.connect(path).ok()?;
        socket.set_nonblocking(true).ok()?;
        Some(Self { socket, identifier })
    }

    fn send(&self, priority: u8, text: &str, fields: &[(String, String)]) {
        let mut entry = Vec::new();
        put(&mut entry, "MESSAGE", text);
        put(&mut entry, "PRIORITY", &priority.to_string());
        put(&mut entry, "SYSLOG_IDENTIFIER", self.identifier);
        for (key, value) in fields {
            put(&mut entry, key, value);
        }
        // Gone or full: the log file has it.
        let _lost = self.socket.send(&entry);
    }
}

fn put(entry: &mut Vec<u8>, key: &str, value: &str) {
    let value = cut(value);
    entry.extend_from_slice(key.as_bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

/// At most [`TEXT_MAX`] bytes of it.
fn cut(text: &str) -> &str {
    let mut length = text.len().min(TEXT_MAX);
    while !text.is_char_boundary(length) {
        length -= 1;
    }
    text.get(..length).unwrap_or_default()
}

fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// The message of an event and its other fields, both for people and as journal fields.
#[derive(Default)]
struct Words {
    message: String,
    pairs: String,
    fields: Vec<(String, String)>,
}

impl Words {
    fn take(&mut self, name: &str, value: String) {
        if name == "message" {
            self.message = value;
            return;
        }
        // Writing to a String cannot fail.
        let _infallible = write!(self.pairs, " {name}={value}");
        // Letters, digits and underscores only: names of fields are identifiers of ours.
        self.fields.push((format!("IMEX_{}", name.to_ascii_uppercase()), value));
    }
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field.name(), value.to_owned());
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut words = Words::default();
        event.record(&mut words);
        let text = format!("{}{}", words.message, words.pairs);
        self.send(priority(*event.metadata().level()), &text, &words.fields);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    #[test]
    fn an_event_is_one_datagram_with_message_priority_and_fields() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("socket");
        assert!(Journal::connect(&path, "imex-prolog").is_none());
        let receiver = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::connect(&path, "imex-prolog").unwrap();
        let subscriber = tracing_subscriber::registry().with(journal);
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(job = 17, outcome = "ready", "all {} members", 2);
        });
        let mut bytes = [0; 4096];
        let length = receiver.recv(&mut bytes).unwrap();
        assert_eq!(
            std::str::from_utf8(&bytes[..length]).unwrap(),
            "MESSAGE=all 2 members job=17 outcome=ready\nPRIORITY=4\nSYSLOG_IDENTIFIER=imex-prolog\n\
             IMEX_JOB=17\nIMEX_OUTCOME=ready\n"
        );
    }

    #[test]
    fn a_value_with_a_line_break_has_its_length_and_a_long_one_is_cut() {
        let mut entry = Vec::new();
        put(&mut entry, "A", "x\ny");
        assert_eq!(entry, b"A\n\x03\0\0\0\0\0\0\0x\ny\n");
        assert_eq!(cut(&"\u{e4}".repeat(TEXT_MAX)).len(), TEXT_MAX);
        assert_eq!(cut(&format!("x{}", "\u{e4}".repeat(TEXT_MAX))).len(), TEXT_MAX - 1);
    }

    #[test]
    fn a_journal_that_nobody_reads_holds_nothing_up() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("socket");
        let _receiver = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::connect(&path, "x").unwrap();
        for _ in 0..10_000 {
            journal.send(6, "text", &[]);
        }
    }
}
