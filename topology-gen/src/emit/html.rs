//! The racks as a page: the picture, and the same in tables for those who read or search. One file, no script, nothing loaded.
#![forbid(unsafe_code)]

use super::{Racks, State, count, escaped, svg};

const SHEET: &str = ":root{color-scheme:light dark}body{font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;margin:0 auto;\
max-width:1500px;padding:16px;background:#fff;color:#1b2733}svg{max-width:100%;height:auto}h2{font-size:18px;margin:28px 0 8px}\
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}caption{text-align:left;white-space:nowrap;color:#5b6b78;padding-bottom:6px}\
th,td{text-align:left;padding:4px 14px 4px 0;border-bottom:1px solid #d4dce3;vertical-align:top}.num{text-align:right}\
.spread{font-weight:600}code{font:13px ui-monospace,Menlo,Consolas,monospace}\
@media (prefers-color-scheme:dark){body{background:#0f161d;color:#e4ebf1}th,td{border-color:#2c3946}caption{color:#93a4b3}}";

/// Writes the page.
pub fn text(racks: &Racks, title: &str) -> String {
    let mut body = String::new();
    if racks.has_states() {
        segments(racks, &mut body);
    }
    jobs(racks, &mut body);
    partitions(racks, &mut body);
    let picture = svg::text(racks, title);
    let title = escaped(title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n<style>{SHEET}</style>\n\
         </head>\n<body>\n<main>\n{picture}{body}</main>\n</body>\n</html>\n"
    )
}

fn table(heading: &str, caption: &str, head: &[(&str, bool)], rows: &str, body: &mut String) {
    let class = |number: bool| if number { " class=\"num\"" } else { "" };
    let head: String = head
        .iter()
        .map(|(name, number)| format!("<th scope=\"col\"{}>{name}</th>", class(*number)))
        .collect();
    body.push_str(&format!(
        "<h2>{heading}</h2>\n<div class=\"wide\"><table>\n<caption>{caption}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n"
    ));
}

fn segments(racks: &Racks, body: &mut String) {
    let rows: String = racks
        .segments()
        .iter()
        .map(|(size, fit)| format!("<tr><td class=\"num\">{size}</td><td class=\"num\">{fit}</td></tr>\n"))
        .collect();
    let caption = "Each segment lies on idle trays of one NVLink partition.";
    table("Segments that fit now", caption, &[("trays", true), ("segments", true)], &rows, body);
}

fn jobs(racks: &Racks, body: &mut String) {
    if racks.jobs.is_empty() {
        return;
    }
    let mut rows = String::new();
    for (at, job) in racks.jobs.iter().enumerate() {
        let blocks: Vec<String> =
            racks.blocks_of(at).iter().map(|(name, trays)| format!("{} ({trays})", escaped(name))).collect();
        let spread = if racks.is_spread(at) { " class=\"spread\"" } else { "" };
        rows.push_str(&format!(
            "<tr{spread}><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td><code>{}</code></td></tr>\n",
            escaped(&job.id),
            escaped(&job.name),
            escaped(&job.user),
            racks.sentence(at),
            blocks.join(", "),
            escaped(&job.nodes.to_string()),
        ));
    }
    let caption = match racks.elsewhere {
        0 => "Jobs in several NVLink partitions are in bold.".to_owned(),
        more => format!(
            "Jobs in several NVLink partitions are in bold; {} outside of these blocks.",
            count(more, "more job")
        ),
    };
    let head = ["job", "name", "user", "place", "blocks", "nodes"].map(|name| (name, false));
    table("Jobs", &caption, &head, &rows, body);
}

fn partitions(racks: &Racks, body: &mut String) {
    let states: Vec<State> =
        if racks.has_states() { racks.tally().into_keys().collect() } else { Vec::new() };
    let mut rows = String::new();
    for partition in racks.racks.iter().flatten().filter_map(|at| racks.partitions.get(*at)) {
        let counts: String = states
            .iter()
            .map(|state| format!("<td class=\"num\">{}</td>", partition.count(*state)))
            .collect();
        rows.push_str(&format!(
            "<tr><td>{}</td><td class=\"num\">{}</td>{counts}<td><code>{}</code></td></tr>\n",
            escaped(&partition.name),
            partition.trays.len(),
            escaped(&partition.nodes()),
        ));
    }
    let mut head = vec![("block", false), ("trays", true)];
    head.extend(states.iter().map(|state| (state.word(), true)));
    head.push(("nodes", false));
    table("NVLink partitions", &escaped(&racks.promise()), &head, &rows, body);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_stands_alone_and_says_all_in_words() {
        let page = text(&crate::emit::tests::racks(), "Racks (simulated) <x>");
        assert!(page.starts_with("<!DOCTYPE html>\n<html lang=\"en\">") && page.ends_with("</html>\n"));
        for never in ["<script", "src=", "href=", "http://", "https://", "<x>", "<a&b>"] {
            let without_namespace = page.replace("http://www.w3.org/2000/svg", "");
            assert!(!without_namespace.contains(never), "{never}");
        }
        assert!(
            page.contains(
                "<td>train &lt;a&amp;b&gt;</td><td>alice</td><td>2 trays in 1 NVLink partition</td>"
            )
        );
        assert!(page.contains("<tr class=\"spread\"><td>8_1</td>"));
        // The picture's style sheet holds for the whole page.
        for class in ["wide", "num", "spread"] {
            assert_eq!(page.matches(&format!(".{class}{{")).count(), 1, "{class}");
        }
        for tag in ["table", "tr", "td", "th", "g", "svg", "main", "caption"] {
            let open = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
            assert_eq!(open, page.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }
}
