//! Charts as SVG: panels of horizontal bars, each panel with a scale of its own.

use super::statistics::Spread;

/// One bar.
#[derive(Clone, Debug)]
pub struct Bar {
    /// What it shows.
    pub label: String,
    /// Its length, and a line from quartile to quartile.
    pub value: Spread,
    /// Where it should end or begin to be.
    pub limit: Option<f64>,
    /// Whether it has the colour of what the chart is about.
    pub is_ours: bool,
}

/// Bars that may be compared with each other.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What they show.
    pub title: String,
    /// In what.
    pub unit: &'static str,
    /// From top to bottom.
    pub bars: Vec<Bar>,
}

const WIDTH: f64 = 860.0;
const LABELS: f64 = 190.0;
const LENGTH: f64 = 500.0;
const ROW: f64 = 20.0;
const HEAD: f64 = 30.0;
const TOP: f64 = 62.0;

const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#1f2328}.title{font-size:16px;font-weight:600}\
.small{font-size:11px;fill:#656d76}.panel{font-weight:600}.ours{fill:#2f6fde}.other{fill:#b6bec9}\
.range{stroke:#1f2328;stroke-width:1.5}.limit{stroke:#c4313a;stroke-width:2}.back{fill:#fff}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.small{fill:#9198a1}.back{fill:#0d1117}\
.other{fill:#57606a}.range{stroke:#e6edf3}}";

/// One chart.
pub fn panels(title: &str, subtitle: &str, panels: &[Panel]) -> String {
    let mut body = String::new();
    let mut y = TOP;
    for panel in panels {
        body.push_str(&text(16.0, y + 18.0, "panel", &panel.title));
        y += HEAD;
        let longest = panel.bars.iter().map(reach).fold(f64::MIN_POSITIVE, f64::max);
        for bar in &panel.bars {
            body.push_str(&drawn(bar, panel.unit, y, LENGTH / longest));
            y += ROW;
        }
    }
    let height = y + 16.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\">\n\
         <style>{STYLE}</style>\n<rect class=\"back\" width=\"100%\" height=\"100%\"/>\n{}{}{body}</svg>\n",
        text(16.0, 28.0, "title", title),
        text(16.0, 48.0, "small", subtitle)
    )
}

fn reach(bar: &Bar) -> f64 {
    bar.value.high.max(bar.value.median).max(bar.limit.unwrap_or_default())
}

fn drawn(bar: &Bar, unit: &str, y: f64, scale: f64) -> String {
    let Spread { median, low, high } = bar.value;
    let class = if bar.is_ours { "ours" } else { "other" };
    let mut drawn = text(24.0, y + 13.0, "", &bar.label);
    drawn.push_str(&format!(
        "<rect class=\"{class}\" x=\"{LABELS}\" y=\"{}\" width=\"{:.1}\" height=\"14\"/>\n",
        y + 2.0,
        median * scale
    ));
    if high > low {
        drawn.push_str(&line(
            "range",
            (LABELS + low * scale, LABELS + high * scale),
            (y + 9.0, y + 9.0),
        ));
    }
    if let Some(limit) = bar.limit {
        let x = LABELS + limit * scale;
        drawn.push_str(&line("limit", (x, x), (y, y + 18.0)));
    }
    let end = LABELS + reach(bar) * scale + 8.0;
    let limit = bar.limit.map_or(String::new(), |limit| format!(" (limit {limit})"));
    drawn.push_str(&text(end, y + 13.0, "", &format!("{}{limit}", number(median, unit))));
    drawn
}

fn number(value: f64, unit: &str) -> String {
    match value {
        value if value >= 1000.0 => format!("{value:.0} {unit}"),
        value if value >= 10.0 => format!("{value:.1} {unit}"),
        value => format!("{value:.2} {unit}"),
    }
}

fn line(class: &str, (x1, x2): (f64, f64), (y1, y2): (f64, f64)) -> String {
    format!("<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1}\" x2=\"{x2:.1}\" y2=\"{y2}\"/>\n")
}

fn text(x: f64, y: f64, class: &str, content: &str) -> String {
    let escaped = content.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    format!("<text x=\"{x:.1}\" y=\"{y}\" class=\"{class}\">{escaped}</text>\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_fills_its_panel_and_text_is_escaped() {
        let bar = |label: &str, median: f64| Bar {
            label: label.to_owned(),
            value: Spread { median, low: median, high: median },
            limit: None,
            is_ours: true,
        };
        let bars = vec![bar("a", 1.0), bar("b<c", 4.0)];
        let svg = panels("T & T", "s", &[Panel { title: "p".to_owned(), unit: "×", bars }]);
        assert!(svg.contains("width=\"125.0\"") && svg.contains("width=\"500.0\""), "{svg}");
        assert!(svg.contains("b&lt;c") && svg.contains("T &amp; T"));
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn a_limit_beyond_the_bars_is_within_the_chart() {
        let value = Spread { median: 1.0, low: 0.5, high: 1.2 };
        let bar = Bar { label: String::new(), value, limit: Some(2.0), is_ours: false };
        let svg = panels("", "", &[Panel { title: String::new(), unit: "", bars: vec![bar] }]);
        assert!(svg.contains("class=\"limit\" x1=\"690.0\""), "{svg}");
    }
}
