//! Charts as SVG: lines, points and bars between two axes.

use std::fmt::Write;

/// A chart.
#[derive(Clone, Debug, Default)]
pub(super) struct Chart {
    /// Below the horizontal axis.
    pub(super) x_label: String,
    /// Beside the vertical axis.
    pub(super) y_label: String,
    /// What is drawn, the first at the bottom.
    pub(super) series: Vec<Series>,
    /// Whether there is a line of equality.
    pub(super) equality: bool,
    /// Whether the vertical range is that of the last nine tenths: high beginnings are cut off.
    pub(super) settled: bool,
}

/// One set of values.
#[derive(Clone, Debug, Default)]
pub(super) struct Series {
    /// In the legend, where it is not empty.
    pub(super) name: String,
    pub(super) style: Style,
    /// What is not finite is left out.
    pub(super) points: Vec<(f64, f64)>,
    /// Half the height of a band around each point; empty for none.
    pub(super) spread: Vec<f64>,
}

/// How values are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Style {
    #[default]
    Line,
    /// A line in the background, whose extremes may be cut off.
    Faint,
    Points,
    Bars,
}

/// Okabe and Ito's colours, which can be told apart with any eyes.
const COLORS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c8c8c"];

/// More points than this on a line say nothing more.
const MOST_POINTS: usize = 400;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 15.0;
const TOP: f64 = 15.0;
const BOTTOM: f64 = 48.0;
const LINE: f64 = 17.0;
const LEGEND: f64 = HEIGHT + 8.0;

/// From values to places on the page, along one axis.
#[derive(Clone, Copy)]
struct Scale {
    from: f64,
    to: f64,
    first: f64,
    last: f64,
}

impl Scale {
    /// A range that holds `values`, a little wider, and from 0 where that is not far.
    fn new(values: impl Iterator<Item = f64>, first: f64, last: f64) -> Self {
        let (mut from, mut to) =
            values.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
        if from > to {
            (from, to) = (0.0, 1.0);
        }
        if from > 0.0 && from < 0.4 * to {
            from = 0.0;
        }
        let margin = if to > from { 0.04 * (to - from) } else { from.abs().max(1.0) * 0.5 };
        Scale { from: if from == 0.0 { 0.0 } else { from - margin }, to: to + margin, first, last }
    }

    fn at(&self, value: f64) -> f64 {
        self.first + (value - self.from) / (self.to - self.from) * (self.last - self.first)
    }

    /// Round numbers for the axis, and how many decimals they need.
    fn ticks(&self) -> (Vec<f64>, usize) {
        let rough = (self.to - self.from) / 6.0;
        let magnitude = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|round| round * magnitude).into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(magnitude);
        let first = (self.from / step).ceil() as i64;
        let ticks = (first..first + 12).map(|tick| tick as f64 * step).filter(|tick| *tick <= self.to);
        (ticks.collect(), (-step.log10().floor()).clamp(0.0, 12.0) as usize)
    }
}

impl Chart {
    /// The chart as part of a page: it takes the page's colour of text.
    pub(super) fn svg(&self) -> String {
        self.draw("")
    }

    /// The chart as a file of its own, on white.
    pub(super) fn file(&self) -> String {
        self.draw(r#" xmlns="http://www.w3.org/2000/svg" style="background:white;color:#222""#)
    }

    fn draw(&self, attributes: &str) -> String {
        let legend: Vec<usize> = (0..self.series.len()).filter(|&at| !self.series[at].name.is_empty()).collect();
        let columns = 3;
        let height = LEGEND + LINE * legend.len().div_ceil(columns) as f64;
        let mut svg = format!(
            r#"<svg{attributes} viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" font-family="system-ui, sans-serif" font-size="12" fill="none" role="img">"#
        );
        svg.push('\n');
        let (x, y) = self.scales();
        self.axes(&mut svg, x, y);
        let _ = writeln!(
            svg,
            r#"<svg x="{LEFT}" y="{TOP}" width="{}" height="{}" viewBox="{LEFT} {TOP} {} {}">"#,
            x.last - LEFT,
            y.first - TOP,
            x.last - LEFT,
            y.first - TOP
        );
        for (at, series) in self.series.iter().enumerate() {
            series.draw(&mut svg, COLORS[at % COLORS.len()], at >= COLORS.len(), x, y);
        }
        svg += "</svg>\n";
        for (place, &at) in legend.iter().enumerate() {
            let left = LEFT + (place % columns) as f64 * (WIDTH - LEFT - RIGHT) / columns as f64;
            let line = LEGEND + LINE * (place / columns) as f64;
            let dash = if at >= COLORS.len() { r#" stroke-dasharray="5 3""# } else { "" };
            let _ = writeln!(
                svg,
                r#"<path d="M{left} {}h18" stroke="{}" stroke-width="3"{dash}/><text x="{}" y="{line}" fill="currentColor">{}</text>"#,
                line - 4.0,
                COLORS[at % COLORS.len()],
                left + 24.0,
                escape(&self.series[at].name)
            );
        }
        svg + "</svg>\n"
    }

    fn scales(&self) -> (Scale, Scale) {
        let bars = self.series.iter().any(|series| series.style == Style::Bars);
        let half = if bars { 0.5 } else { 0.0 };
        let xs = self.series.iter().flat_map(Series::finite).flat_map(|(x, _)| [x - half, x + half]);
        let x = Scale::new(xs, LEFT, WIDTH - RIGHT);
        let ys = self.series.iter().flat_map(|series| series.range(self.settled)).chain(bars.then_some(0.0));
        (x, Scale::new(ys, HEIGHT - BOTTOM, TOP))
    }

    fn axes(&self, svg: &mut String, x: Scale, y: Scale) {
        let (bottom, middle) = (y.first, (TOP + y.first) / 2.0);
        *svg += r#"<g fill="currentColor" text-anchor="middle">"#;
        let (ticks, decimals) = x.ticks();
        for tick in ticks {
            let _ = write!(svg, r#"<text x="{:.1}" y="{}">{tick:.decimals$}</text>"#, x.at(tick), bottom + 16.0);
        }
        let _ = write!(
            svg,
            r#"<text x="{}" y="{}">{}</text>"#,
            (LEFT + x.last) / 2.0,
            bottom + 36.0,
            escape(&self.x_label)
        );
        let label = escape(&self.y_label);
        let _ = write!(svg, r#"<text transform="translate(14 {middle}) rotate(-90)">{label}</text></g>"#);
        *svg += r#"<g fill="currentColor" text-anchor="end">"#;
        let (ticks, decimals) = y.ticks();
        for tick in &ticks {
            let _ = write!(svg, r#"<text x="{}" y="{:.1}">{tick:.decimals$}</text>"#, LEFT - 7.0, y.at(*tick) + 4.0);
        }
        *svg += r#"</g><g stroke="currentColor" stroke-opacity="0.15">"#;
        for tick in &ticks {
            let _ = write!(svg, r#"<path d="M{LEFT} {:.1}H{}"/>"#, y.at(*tick), x.last);
        }
        let _ = writeln!(
            svg,
            r#"</g><path d="M{LEFT} {TOP}V{bottom}H{}" stroke="currentColor" stroke-opacity="0.6"/>"#,
            x.last
        );
        if self.equality {
            let (from, to) = (x.from.max(y.from), x.to.min(y.to));
            let (a, b, c, d) = (x.at(from), y.at(from), x.at(to), y.at(to));
            let _ = writeln!(
                svg,
                r#"<path d="M{a:.1} {b:.1}L{c:.1} {d:.1}" stroke="currentColor" stroke-opacity="0.5" stroke-dasharray="4 4"/>"#
            );
        }
    }
}

impl Series {
    fn finite(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite())
    }

    /// The least and the greatest value that have to be seen.
    fn range(&self, settled: bool) -> Vec<f64> {
        let mut values: Vec<f64> = self.finite().map(|(_, y)| y).collect();
        if settled {
            values.drain(..values.len() / 10);
        }
        values.sort_by(f64::total_cmp);
        let cut = if self.style == Style::Faint { values.len() / 100 } else { 0 };
        [values.get(cut), values.iter().rev().nth(cut)].into_iter().flatten().copied().collect()
    }

    fn draw(&self, svg: &mut String, color: &str, dashed: bool, x: Scale, y: Scale) {
        let step = self.points.len().div_ceil(MOST_POINTS).max(1);
        let kept = |at: usize| at.is_multiple_of(step) || at + 1 == self.points.len();
        let points = self.points.iter().enumerate().filter(|(_, (x, y))| x.is_finite() && y.is_finite());
        let points: Vec<(usize, f64, f64)> =
            points.filter(|(at, _)| kept(*at)).map(|(at, &(px, py))| (at, x.at(px), y.at(py))).collect();
        if points.is_empty() {
            return;
        }
        let path = |points: &mut dyn Iterator<Item = (f64, f64)>| {
            let text: String = points.map(|(x, y)| format!("L{x:.1} {y:.1}")).collect();
            text.replacen('L', "M", 1)
        };
        match self.style {
            Style::Points => {
                let _ = write!(svg, r#"<g fill="{color}" fill-opacity="0.45">"#);
                for (_, x, y) in &points {
                    let _ = write!(svg, r#"<circle cx="{x:.1}" cy="{y:.1}" r="2.2"/>"#);
                }
                *svg += "</g>\n";
            }
            Style::Bars => {
                let width = (x.at(0.8) - x.at(0.0)).abs();
                let _ = write!(svg, r#"<g fill="{color}" fill-opacity="0.85">"#);
                for (_, x, top) in &points {
                    let (left, height) = (x - width / 2.0, (y.at(0.0) - top).max(0.0));
                    let _ =
                        write!(svg, r#"<rect x="{left:.1}" y="{top:.1}" width="{width:.1}" height="{height:.1}"/>"#);
                }
                *svg += "</g>\n";
            }
            Style::Line | Style::Faint => {
                let unit = (y.at(1.0) - y.at(0.0)).abs();
                let half = |at: usize| self.spread.get(at).copied().unwrap_or_default() * unit;
                if !self.spread.is_empty() {
                    let upper = points.iter().map(|&(at, x, y)| (x, y - half(at)));
                    let lower = points.iter().rev().map(|&(at, x, y)| (x, y + half(at)));
                    let outline = path(&mut upper.chain(lower));
                    let _ = writeln!(svg, r#"<path d="{outline}Z" fill="{color}" fill-opacity="0.15"/>"#);
                }
                let line = path(&mut points.iter().map(|&(_, x, y)| (x, y)));
                let faint = if self.style == Style::Faint {
                    r#" stroke-opacity="0.3" stroke-width="1""#
                } else {
                    r#" stroke-width="2""#
                };
                let dash = if dashed { r#" stroke-dasharray="5 3""# } else { "" };
                let _ = writeln!(svg, r#"<path d="{line}" stroke="{color}"{faint}{dash} stroke-linejoin="round"/>"#);
            }
        }
    }
}

/// Text that may stand in HTML and SVG.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(style: Style, points: Vec<(f64, f64)>) -> String {
        let series = Series { name: "a<b".into(), style, spread: vec![0.5; points.len()], points };
        let chart = Chart {
            x_label: "x & y".into(),
            y_label: "\"y\"".into(),
            series: vec![series],
            equality: false,
            settled: false,
        };
        chart.file()
    }

    /// Every element that is opened is closed, in order.
    fn assert_well_formed(svg: &str) {
        let mut open = Vec::new();
        for tag in svg.split('<').skip(1) {
            let (tag, text) = tag.split_once('>').expect("a tag ends");
            assert!(!text.contains('&') || text.contains(';'), "{text}");
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name.to_string()));
            } else if !tag.ends_with('/') {
                open.push(tag.split(' ').next().unwrap().to_string());
            }
        }
        assert!(open.is_empty(), "{open:?}");
    }

    #[test]
    fn any_values_give_a_picture_without_nan() {
        let wild = vec![(1.0, f64::NAN), (2.0, f64::INFINITY), (3.0, 1e300), (4.0, -1e300), (5.0, 1e-300)];
        let cases = [vec![], vec![(1.0, 2.0)], vec![(0.0, 0.0); 3], vec![(1.0, -7.0), (2.0, -7.0)], wild];
        for points in cases {
            for style in [Style::Line, Style::Faint, Style::Points, Style::Bars] {
                let svg = chart(style, points.clone());
                assert_well_formed(&svg);
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{points:?}: {svg}");
            }
        }
    }

    #[test]
    fn points_lie_where_their_values_are() {
        let svg = chart(Style::Points, vec![(0.0, 0.0), (10.0, 100.0)]);
        // The ranges are 0 to 10.4 and 0 to 104.
        let x = LEFT + 10.0 / 10.4 * (WIDTH - RIGHT - LEFT);
        let y = HEIGHT - BOTTOM - 100.0 / 104.0 * (HEIGHT - BOTTOM - TOP);
        assert!(svg.contains(&format!(r#"cx="{x:.1}" cy="{y:.1}""#)), "{svg}");
        assert!(svg.contains(">a&lt;b<") && svg.contains(">x &amp; y<"), "labels are escaped");
    }

    #[test]
    fn what_is_cut_off_does_not_set_the_range() {
        let mut points: Vec<(f64, f64)> = (0..200).map(|x| (f64::from(x), 1.0)).collect();
        points[0].1 = 100.0;
        points[100].1 = 2.0;
        let range = |style, settled| Series { style, points: points.clone(), ..Series::default() }.range(settled);
        assert_eq!(range(Style::Line, false), [1.0, 100.0]);
        assert_eq!(range(Style::Line, true), [1.0, 2.0]);
        assert_eq!(range(Style::Faint, false), [1.0, 1.0]);
    }

    #[test]
    fn ticks_are_round() {
        let scale = Scale::new([0.0, 0.97].into_iter(), 0.0, 1.0);
        assert_eq!(scale.ticks().0, [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!(scale.ticks().1, 1);
        assert_eq!(Scale::new([1000.0, 7000.0].into_iter(), 0.0, 1.0).ticks().0, [0.0, 2000.0, 4000.0, 6000.0]);
    }
}
