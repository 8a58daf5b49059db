//! The domain view as JSON: keys in no stable order, the domain's `status` last, one line or indented.
#![forbid(unsafe_code)]

use super::view::{NodeView, View};
use crate::imex::JsonStyle;
use crate::state::Connection;

/// Renders the view. `seed` decides the order of keys; `host_names` fills `hostName`.
pub fn render(view: &View, timestamp: &str, host_names: bool, style: JsonStyle, seed: u64) -> String {
    let mut order = Order(seed | 1);
    let nodes = view.nodes.iter().enumerate();
    let nodes = nodes.map(|(id, entry)| (id.to_string(), node(view, entry, host_names, &mut order)));
    let nodes = Value::Object(nodes.collect());
    let mut top = vec![key("nodes", nodes.shuffled(&mut order)), key("timestamp", text(timestamp))];
    order.shuffle(&mut top);
    top.push(key("status", text(view.status.word())));
    let mut out = String::new();
    Value::Object(top).write(&mut out, style, 0);
    out.push('\n');
    out
}

fn node(view: &View, node: &NodeView, host_names: bool, order: &mut Order) -> Value {
    let cells = view.nodes.iter().zip(&node.connections).enumerate();
    let cells = cells.map(|(id, (to, cell))| (id.to_string(), connection(&to.host, *cell, order)));
    let connections = Value::Object(cells.collect()).shuffled(order);
    let host_name = if host_names { node.host_name.as_str() } else { "" };
    let fields = vec![
        key("status", text(node.status.word())),
        key("host", text(&node.host)),
        key("connections", connections),
        key("changed", Value::True),
        key("version", text(&node.version)),
        key("hostName", text(host_name)),
    ];
    Value::Object(fields).shuffled(order)
}

fn connection(host: &str, cell: Connection, order: &mut Order) -> Value {
    let fields = vec![key("host", text(host)), key("status", text(cell.word())), key("changed", Value::True)];
    Value::Object(fields).shuffled(order)
}

fn key(name: &str, value: Value) -> (String, Value) {
    (name.to_owned(), value)
}

fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

/// As much JSON as the view needs, with keys in the order given.
enum Value {
    Text(String),
    True,
    Object(Vec<(String, Value)>),
}

impl Value {
    fn shuffled(mut self, order: &mut Order) -> Self {
        if let Self::Object(fields) = &mut self {
            order.shuffle(fields);
        }
        self
    }

    fn write(&self, out: &mut String, style: JsonStyle, depth: usize) {
        let fields = match self {
            Self::Text(text) => return out.push_str(&quoted(text)),
            Self::True => return out.push_str("true"),
            Self::Object(fields) => fields,
        };
        let (indent, colon) = match style {
            JsonStyle::Compact => (None, ":"),
            JsonStyle::Pretty => (Some(depth + 1), ": "),
        };
        let new_line = |out: &mut String, depth: usize| {
            out.push('\n');
            out.push_str(&"    ".repeat(depth));
        };
        out.push('{');
        for (index, (name, value)) in fields.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            if let Some(depth) = indent {
                new_line(out, depth);
            }
            out.push_str(&quoted(name));
            out.push_str(colon);
            value.write(out, style, depth + 1);
        }
        if indent.is_some() {
            new_line(out, depth);
        }
        out.push('}');
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A small generator of orders (xorshift); never zero.
struct Order(u64);

impl Order {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 16) % below.max(1) as u64).unwrap_or_default()
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.next(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::view::assemble;
    use crate::ctl::view::tests::report;
    use crate::state::Connection::{Connected, NeverConnected};
    use proptest::prelude::*;

    fn view() -> View {
        let hosts = ["10.20.0.11".to_owned(), "10.20.0.12".to_owned()];
        assemble(&hosts, Some(0), vec![Some(report(0, vec![Connected, NeverConnected])), None])
    }

    #[test]
    fn fields_and_words_are_the_vendors() {
        let json = render(&view(), "10/3/2026 09:15:02.117", false, JsonStyle::Compact, 1);
        assert_eq!(json.lines().count(), 1);
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        let expected = serde_json::json!({
            "nodes": {
                "0": {"status": "READY", "host": "10.20.0.11", "changed": true, "version": "580.95.05", "hostName": "",
                      "connections": {"0": {"host": "10.20.0.11", "status": "CONNECTED", "changed": true},
                                      "1": {"host": "10.20.0.12", "status": "NEVER_CONNECTED", "changed": true}}},
                "1": {"status": "UNAVAILABLE", "host": "10.20.0.12", "changed": true, "version": "", "hostName": "",
                      "connections": {"0": {"host": "10.20.0.11", "status": "INVALID", "changed": true},
                                      "1": {"host": "10.20.0.12", "status": "INVALID", "changed": true}}}
            },
            "timestamp": "10/3/2026 09:15:02.117",
            "status": "DEGRADED"
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn host_names_are_filled_on_request_only() {
        let json = render(&view(), "t", true, JsonStyle::Compact, 1);
        assert!(json.contains(r#""hostName":"tray0""#), "{json}");
    }

    #[test]
    fn orders_differ_between_seeds() {
        let first = render(&view(), "t", false, JsonStyle::Compact, 1);
        assert!((2..50).any(|seed| render(&view(), "t", false, JsonStyle::Compact, seed) != first));
    }

    proptest! {
        #[test]
        fn every_seed_and_style_says_the_same_with_status_last(seed: u64) {
            let compact = render(&view(), "t", false, JsonStyle::Compact, seed);
            let pretty = render(&view(), "t", false, JsonStyle::Pretty, seed);
            let value = |json: &str| serde_json::from_str::<serde_json::Value>(json).unwrap();
            prop_assert_eq!(value(&compact), value(&pretty));
            prop_assert_eq!(value(&compact), value(&render(&view(), "t", false, JsonStyle::Compact, 7)));
            let last = compact.ends_with("\"status\":\"DEGRADED\"}\n");
            prop_assert!(last, "{}", compact);
        }
    }
}
