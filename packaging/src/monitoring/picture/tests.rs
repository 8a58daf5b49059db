use super::*;

/// Two panels, one above the other, the second without a value.
const DASHBOARD: &str = r#"{"title":"Racks & domains","panels":[
 {"title":"Trays lost in all of the racks","type":"stat","gridPos":{"x":0,"y":0,"w":4,"h":4},
  "fieldConfig":{"defaults":{"unit":"short","thresholds":{"steps":[{"color":"green","value":null},{"color":"red","value":1}]}}},
  "targets":[{"expr":"a"}]},
 {"title":"Length","type":"timeseries","gridPos":{"x":4,"y":0,"w":12,"h":8},
  "fieldConfig":{"defaults":{"unit":"s"}},"targets":[{"expr":"b","legendFormat":"{{x}}"}]},
 {"title":"Nothing","type":"timeseries","gridPos":{"x":16,"y":0,"w":8,"h":8},
  "fieldConfig":{"defaults":{"unit":"s"}},"targets":[{"expr":"c"}]}]}"#;

fn picture() -> String {
    let dashboard = Dashboard::parse(DASHBOARD).unwrap();
    let line = |name: &str, values: &[f64]| Line {
        name: name.to_owned(),
        points: values.iter().enumerate().map(|(at, value)| (100.0 + 30.0 * at as f64, *value)).collect(),
    };
    let panels = [
        vec![line("", &[0.0, 0.0, 2.0])],
        vec![line("mean", &[0.4, f64::NAN, 0.8]), line("<slow>", &[1.0, 1.0, 33.0])],
        vec![line("none", &[f64::NAN])],
    ];
    let marks = vec![(130.0, "a tray is lost".to_owned())];
    draw(&dashboard, &panels, &Scene { begin: 100.0, end: 160.0, marks })
}

#[test]
fn it_looks_so() {
    insta::assert_snapshot!(picture().replace(style::SHEET, "..."));
}

#[test]
fn it_is_well_formed_and_text_is_escaped() {
    let svg = picture();
    assert!(svg.contains("Racks &amp; domains") && svg.contains("&lt;slow&gt;"), "{svg}");
    for tag in ["g", "svg", "text", "tspan", "line", "title", "style"] {
        let count = |text: String| svg.matches(&text).count();
        let opened = count(format!("<{tag} ")) + count(format!("<{tag}>"));
        assert_eq!(opened, count(format!("</{tag}>")) + self_closed(&svg, tag), "{tag}");
    }
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
}

/// How many elements of a name have no end of their own.
fn self_closed(svg: &str, tag: &str) -> usize {
    svg.split(&format!("<{tag} "))
        .skip(1)
        .filter(|rest| rest.split('>').next().is_some_and(|head| head.ends_with('/')))
        .count()
}

#[test]
fn values_have_their_units_and_thresholds_their_colours() {
    let svg = picture();
    assert!(svg.contains("<text class=\"n red\"") && svg.contains(">2</text>"), "{svg}");
    assert!(
        svg.contains("mean <tspan class=\"s\">800 ms</tspan>")
            && svg.contains("<tspan class=\"s\">33 s</tspan>"),
        "{svg}"
    );
    assert_eq!(svg.matches("No data").count(), 1);
    assert!(svg.contains(">Trays lost in all of") && svg.contains("\u{2026}</text>"), "{svg}");
}

#[test]
fn panels_lie_where_the_grid_says() {
    let dashboard = Dashboard::parse(DASHBOARD).unwrap();
    let frames: Vec<Frame> = dashboard.panels.iter().map(place).collect();
    assert_eq!((frames[0].x, frames[0].y), (MARGIN, HEAD));
    assert!(frames[0].x + frames[0].width + GAP - frames[1].x < 1e-9, "{frames:?}");
    assert!((frames[2].x + frames[2].width - (WIDTH - MARGIN)).abs() < 1e-9, "{frames:?}");
    assert_eq!(frames[1].height, 8.0 * ROW - GAP);
}

#[test]
fn a_line_runs_from_the_begin_to_the_end_and_never_leaves_its_panel() {
    let svg = picture();
    let line = svg.split("points=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let points: Vec<(f64, f64)> = line
        .split(' ')
        .map(|point| point.split_once(',').map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap())).unwrap())
        .collect();
    let frame = place(&Dashboard::parse(DASHBOARD).unwrap().panels[1]);
    assert_eq!(points.len(), 3);
    assert!(
        points.iter().all(|(x, y)| *x > 0.0 && *x < frame.width && *y > 0.0 && *y < frame.height),
        "{points:?}"
    );
    assert!(points[0].1 - points[2].1 > 100.0, "33 s is far above 1 s: {points:?}");
}
