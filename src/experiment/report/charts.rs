//! Line, scatter and bar charts as SVG.
//!
//! A chart carries its own style, which follows the reader's light or dark
//! theme, so it stands alone in a file as well as inside a page. The colours
//! are Okabe and Ito's, which colour-blind people can tell apart, lightened
//! for the dark theme.

use super::axis::Axis;
use super::text::{cut, escape};
use std::fmt::Write;

/// A chart with two axes.
#[derive(Clone, Debug, Default)]
pub struct Chart {
    /// What stands above it.
    pub title: String,
    /// The name of the horizontal axis, with its unit.
    pub x_label: String,
    /// The name of the vertical axis, with its unit.
    pub y_label: String,
    /// The ticks of the horizontal axis with their names; without any, they are round numbers.
    pub x_ticks: Vec<(f64, String)>,
    /// Whether the vertical axis is logarithmic; with a value that is not positive it is linear all the same.
    pub log_y: bool,
    /// What is drawn, in this order.
    pub series: Vec<Series>,
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A line through the points, which are in order of x; few points are marked too.
    Line,
    /// A thin pale line: the raw values below a smoothed line.
    Faint,
    /// A dashed grey line to compare with.
    Reference,
    /// Points: large ones where there are few.
    Points,
    /// A bar from 0 to each point; those of several series stand side by side.
    Bars,
}

/// Values that belong together.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its name in the legend; empty: it is not listed there.
    pub name: String,
    /// How it is drawn.
    pub kind: Kind,
    /// Which of the seven colours it has; from 7 on the colours repeat with dashed lines.
    pub color: usize,
    /// x and y of each point. What is not finite is left out.
    pub points: Vec<(f64, f64)>,
    /// Around each point, a lower and an upper y: the spread of a mean.
    pub band: Option<Vec<(f64, f64)>>,
}

impl Series {
    /// A series without a band.
    pub fn new(name: impl Into<String>, kind: Kind, color: usize, points: Vec<(f64, f64)>) -> Self {
        Series { name: name.into(), kind, color, points, band: None }
    }

    /// What can be drawn of it: finite numbers, whose differences are finite too.
    fn drawable(&self) -> Series {
        let keep = |value: f64| if value.abs() < 1e-290 { 0.0 } else { value.clamp(-1e300, 1e300) };
        let finite = |(_, (x, y)): &(usize, &(f64, f64))| x.is_finite() && y.is_finite();
        let kept = || self.points.iter().enumerate().filter(finite);
        let band = self.band.as_ref().map(|band| {
            let edges = kept().map(|(at, &(_, y))| match band.get(at) {
                Some(&(low, high)) if low.is_finite() && high.is_finite() => (keep(low), keep(high)),
                _ => (keep(y), keep(y)),
            });
            edges.collect()
        });
        let points = kept().map(|(_, &(x, y))| (keep(x), keep(y))).collect();
        Series { points, band, ..self.clone() }
    }

    /// The classes that give it its colour and its dashes.
    fn class(&self) -> String {
        match self.kind {
            Kind::Reference => "reference".into(),
            _ if self.color >= COLORS => format!("c{} again", self.color % COLORS),
            _ => format!("c{}", self.color),
        }
    }
}

/// The number of colours in [`STYLE`].
const COLORS: usize = 7;

/// The style of every chart. Everything is below `.chart`, so that it changes nothing else on a page.
const STYLE: &str = "\
.chart{font:12px system-ui,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif;color:#9aa5b1}\
.chart text{fill:#52606d}.chart .title{font-size:15px;font-weight:600;fill:#1f2933}\
.chart .grid{stroke:#e4e7eb}.chart .reference{color:#7b8794}.chart .reference,.chart .again{stroke-dasharray:6 4}\
.chart .c0{color:#0072b2}.chart .c1{color:#d55e00}.chart .c2{color:#009e73}.chart .c3{color:#cc79a7}\
.chart .c4{color:#e69f00}.chart .c5{color:#56b4e9}.chart .c6{color:#5f6b7a}\
@media(prefers-color-scheme:dark){.chart{color:#616e7c}.chart text{fill:#9aa5b1}.chart .title{fill:#e4e7eb}\
.chart .grid{stroke:#323f4b}.chart .c0{color:#4ba3e3}.chart .c1{color:#ff8a4c}.chart .c2{color:#2cc295}\
.chart .c3{color:#e6a3c8}.chart .c4{color:#f5bd41}.chart .c5{color:#9adcff}.chart .c6{color:#aab4c0}}";

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 350.0;
/// Where the title ends and the legend begins.
const TOP: f64 = 44.0;
/// The height of a line of the legend.
const LINE: f64 = 20.0;
/// The width of a character of the labels, roughly.
const CHARACTER: f64 = 6.6;

impl Chart {
    /// The chart as one `<svg>` element. Whatever the numbers, it is well-formed and holds finite coordinates only;
    /// without any it says so.
    pub fn svg(&self) -> String {
        let series: Vec<Series> = self.series.iter().map(Series::drawable).collect();
        let bars = series.iter().filter(|series| series.kind == Kind::Bars).count();
        let curves = series.iter().all(|series| matches!(series.kind, Kind::Line | Kind::Faint));
        let points = || series.iter().flat_map(|series| &series.points);
        let bands = series.iter().filter_map(|series| series.band.as_ref()).flatten();

        let mut y: Vec<f64> = points().map(|point| point.1).chain(bands.flat_map(|&(low, high)| [low, high])).collect();
        let mut x: Vec<f64> = points().map(|point| point.0).collect();
        let empty = x.is_empty();
        let spacing = least_distance(x.clone());
        if bars > 0 && !empty {
            let (low, high) = x.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &x| (l.min(x), h.max(x)));
            x.extend([low - spacing / 2.0, high + spacing / 2.0]);
            y.push(0.0);
        }
        let mut x = Axis::new(&x, if curves || bars > 0 { 0.0 } else { 0.03 }, false);
        let y = Axis::new(&y, 0.05, self.log_y);

        let (legend, lines) = self.legend();
        let (top, height) = (TOP + LINE * lines as f64, HEIGHT + LINE * lines as f64);
        if !self.x_ticks.is_empty() {
            x.ticks.clone_from(&self.x_ticks);
        }
        let frame = Frame {
            left: 38.0 + widest(&y.ticks),
            // Half of the last label may reach beyond its tick.
            right: WIDTH - 12.0 - widest(&x.ticks).min(120.0) / 2.0,
            top,
            bottom: height - 46.0,
            x,
            y,
        };
        let mut body = legend + &self.axes(&frame);
        let mut bar = 0;
        for series in &series {
            body += &frame.band(series);
            let _ = write!(body, "<g class=\"{}\">", series.class());
            match series.kind {
                Kind::Points => body += &frame.points(series),
                Kind::Bars => {
                    let width = 0.8 * spacing / bars as f64;
                    body += &frame.bars(series, width, width * (bar as f64 - bars as f64 / 2.0));
                    bar += 1;
                }
                _ => body += &frame.line(series),
            }
            body += "</g>";
        }
        if empty {
            let (x, y) = ((frame.left + frame.right) / 2.0, (frame.top + frame.bottom) / 2.0);
            let _ = write!(body, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">nothing to draw</text>");
        }
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" role=\"img\" viewBox=\"0 0 {WIDTH} {height}\">\
             <title>{title}</title><style>{STYLE}</style>\
             <text class=\"title\" x=\"12\" y=\"22\">{short}</text>{body}</svg>\n",
            title = escape(&self.title),
            short = escape(&cut(&self.title, 62)),
        )
    }

    /// The legend and the number of its lines; none where only one series or none has a name.
    fn legend(&self) -> (String, usize) {
        let named: Vec<&Series> = self.series.iter().filter(|series| !series.name.is_empty()).collect();
        let (mut svg, mut lines, mut x) = (String::new(), 0, WIDTH);
        for series in named.iter().filter(|_| named.len() > 1) {
            let name = cut(&series.name, 72);
            let width = 44.0 + text_width(&name);
            if x + width > WIDTH - 8.0 {
                (lines, x) = (lines + 1, 12.0);
            }
            let key = match series.kind {
                Kind::Points => "<circle cx=\"11\" cy=\"-4\" r=\"4\" fill=\"currentColor\"/>",
                Kind::Bars => "<path d=\"M5 -9h12v10h-12z\" fill=\"currentColor\"/>",
                Kind::Faint => "<path d=\"M0 -4h22\" stroke=\"currentColor\" stroke-opacity=\".6\"/>",
                Kind::Line | Kind::Reference => "<path d=\"M0 -4h22\" stroke=\"currentColor\" stroke-width=\"2.2\"/>",
            };
            let _ = write!(
                svg,
                "<g class=\"{}\" transform=\"translate({x:.1} {})\">{key}<text x=\"28\">{}</text></g>",
                series.class(),
                TOP + LINE * (lines as f64 - 1.0),
                escape(&name)
            );
            x += width;
        }
        (svg, lines)
    }

    /// The grid, the ticks and the names of the axes.
    fn axes(&self, frame: &Frame) -> String {
        let Frame { left, right, top, bottom, .. } = frame;
        let mut svg = String::new();
        for (value, label) in &frame.y.ticks {
            let y = frame.y(*value);
            let _ = write!(
                svg,
                "<path class=\"grid\" d=\"M{left:.1} {y:.1}H{right:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                left - 7.0,
                y + 4.0,
                escape(label)
            );
        }
        let mut free = f64::NEG_INFINITY;
        for (value, label) in frame.x.ticks.iter().filter(|(value, _)| value.is_finite()) {
            let x = frame.x(*value);
            let _ = write!(svg, "<path d=\"M{x:.1} {bottom:.1}v4\" stroke=\"currentColor\"/>");
            let half = text_width(label) / 2.0;
            if x - half < free {
                continue;
            }
            free = x + half + CHARACTER / 2.0;
            let (y, label) = (bottom + 17.0, escape(label));
            let _ = write!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{label}</text>");
        }
        let _ = write!(
            svg,
            "<path d=\"M{left:.1} {bottom:.1}H{right:.1}\" stroke=\"currentColor\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
             <text transform=\"translate(18 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            (left + right) / 2.0,
            bottom + 38.0,
            escape(&cut(&self.x_label, 72)),
            (top + bottom) / 2.0,
            escape(&cut(&self.y_label, 42)),
        );
        svg
    }
}

/// Where the axes are in the picture.
struct Frame {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    x: Axis,
    y: Axis,
}

impl Frame {
    fn x(&self, value: f64) -> f64 {
        self.left + self.x.position(value) * (self.right - self.left)
    }

    fn y(&self, value: f64) -> f64 {
        self.bottom - self.y.position(value) * (self.bottom - self.top)
    }

    /// `x,y x,y ...` of at most about 1200 points.
    fn path(&self, points: impl Iterator<Item = (f64, f64)>) -> String {
        let placed: Vec<(f64, f64)> = points.map(|(x, y)| (self.x(x), self.y(y))).collect();
        thin(&placed).iter().map(|(x, y)| format!("{x:.1},{y:.1} ")).collect()
    }

    fn line(&self, series: &Series) -> String {
        let points = self.path(series.points.iter().copied());
        let (width, opacity) = match series.kind {
            Kind::Faint => (1.0, 0.4),
            Kind::Reference => (1.5, 1.0),
            _ => (2.2, 1.0),
        };
        let line = format!(
            "<polyline fill=\"none\" stroke=\"currentColor\" stroke-width=\"{width}\" stroke-opacity=\"{opacity}\" \
             stroke-linejoin=\"round\" points=\"{points}\"/>"
        );
        let marked = series.kind == Kind::Line && series.points.len() <= 40;
        line + &if marked { self.circles(series, 3.0, 1.0) } else { String::new() }
    }

    fn points(&self, series: &Series) -> String {
        if series.points.len() <= 10 { self.circles(series, 6.0, 1.0) } else { self.circles(series, 2.2, 0.4) }
    }

    fn circles(&self, series: &Series, radius: f64, opacity: f64) -> String {
        let circle =
            |&(x, y): &(f64, f64)| format!("<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"{radius}\"/>", self.x(x), self.y(y));
        let circles: String = series.points.iter().map(circle).collect();
        format!("<g fill=\"currentColor\" fill-opacity=\"{opacity}\">{circles}</g>")
    }

    /// Bars of `width` from `offset` beside their x on, both in the units of the axis.
    fn bars(&self, series: &Series, width: f64, offset: f64) -> String {
        let bar = |&(x, y): &(f64, f64)| {
            let (left, right, zero, end) = (self.x(x + offset), self.x(x + offset + width), self.y(0.0), self.y(y));
            format!("<path d=\"M{left:.1} {zero:.1}V{end:.1}H{right:.1}V{zero:.1}z\" fill=\"currentColor\"/>")
        };
        series.points.iter().map(bar).collect()
    }

    fn band(&self, series: &Series) -> String {
        let Some(band) = &series.band else { return String::new() };
        let edge = |upper: bool| {
            let edge = series.points.iter().zip(band);
            edge.map(move |((x, _), (low, high))| (*x, if upper { *high } else { *low }))
        };
        let (upper, lower) = (self.path(edge(true)), self.path(edge(false).rev()));
        format!(
            "<polygon class=\"{}\" fill=\"currentColor\" fill-opacity=\".16\" points=\"{upper}{lower}\"/>",
            series.class()
        )
    }
}

/// The width of a text, roughly.
fn text_width(text: &str) -> f64 {
    CHARACTER * text.chars().count() as f64
}

/// The width of the widest label.
fn widest(ticks: &[(f64, String)]) -> f64 {
    ticks.iter().map(|(_, label)| text_width(label)).fold(0.0, f64::max)
}

/// The least distance between two different values; 1 without any.
fn least_distance(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let distances = values.windows(2).map(|pair| pair[1] - pair[0]).filter(|&distance| distance > 0.0);
    Some(distances.fold(f64::INFINITY, f64::min)).filter(|distance| distance.is_finite()).unwrap_or(1.0)
}

/// The least and the greatest of every few points, where there are more than the picture can show.
fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= 1200 {
        return points.to_vec();
    }
    let extremes = points.chunks(points.len().div_ceil(600)).flat_map(|chunk| {
        let by = |sign: f64| (0..chunk.len()).max_by(|&a, &b| (sign * chunk[a].1).total_cmp(&(sign * chunk[b].1)));
        let (low, high) = (by(-1.0).unwrap_or(0), by(1.0).unwrap_or(0));
        [chunk[low.min(high)], chunk[low.max(high)]]
    });
    extremes.collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use quick_xml::events::Event;

    /// Checks that `text` is well-formed XML and that no attribute holds a number that is not finite; returns
    /// how often each element occurs in it.
    pub fn elements(text: &str) -> std::collections::BTreeMap<String, usize> {
        let mut reader = quick_xml::Reader::from_str(text);
        let (mut count, mut open) = (std::collections::BTreeMap::new(), 0);
        loop {
            let event = reader.read_event().expect("well-formed XML");
            match &event {
                Event::Start(tag) | Event::Empty(tag) => {
                    *count.entry(tag.name().as_ref().to_string()).or_default() += 1;
                    for attribute in tag.attributes() {
                        let value = attribute.expect("a quoted attribute").value;
                        let bad = value.contains("NaN") || value.split([' ', ',']).any(|part| part.ends_with("inf"));
                        assert!(!bad, "{value}");
                    }
                }
                Event::Eof => break,
                _ => {}
            }
            open += i32::from(matches!(event, Event::Start(_))) - i32::from(matches!(event, Event::End(_)));
        }
        assert_eq!(open, 0, "every element is closed");
        count
    }

    fn chart(kind: Kind, log_y: bool, points: &[(f64, f64)]) -> String {
        let band = points.iter().map(|&(_, y)| (y - 1.0, y * 2.0)).collect();
        let series = Series { band: Some(band), ..Series::new("a <&\"'> \u{1} b", kind, 9, points.to_vec()) };
        let labels = ("t <&\"'>".to_string(), "x &lt;".to_string(), "y >".to_string());
        let (title, x_label, y_label) = labels;
        Chart { title, x_label, y_label, log_y, series: vec![series.clone(), series], ..Chart::default() }.svg()
    }

    #[test]
    fn whatever_the_numbers_the_svg_is_well_formed_and_finite() {
        let (nan, inf) = (f64::NAN, f64::INFINITY);
        let inputs: [&[(f64, f64)]; 12] = [
            &[],
            &[(1.0, 2.0)],
            &[(0.0, 0.0)],
            &[(nan, 1.0), (1.0, nan), (inf, 1.0), (1.0, -inf)],
            &[(1.0, 3.0), (2.0, 3.0), (3.0, 3.0)],
            &[(f64::MIN, f64::MIN), (f64::MAX, f64::MAX)],
            &[(1e300, 1e300), (1e300, 1e300)],
            &[(5e-324, 5e-324), (1.0, 1e-300)],
            &[(1.0, 1e-300), (2.0, 1e300)],
            &[(1.0, 1e9), (2.0, 1e9 + 1e-3), (3.0, -1e-12)],
            &[(1e15, 1.0), (1e15 + 1.0, 1.0 + 1e-15)],
            &[(1.0, -5.0), (2.0, 0.0), (3.0, 1e-3)],
        ];
        for points in inputs {
            for kind in [Kind::Line, Kind::Faint, Kind::Reference, Kind::Points, Kind::Bars] {
                for log_y in [false, true] {
                    let svg = chart(kind, log_y, points);
                    assert_eq!(elements(&svg)["svg"], 1, "{kind:?} {points:?}");
                    let drawn = points.iter().any(|(x, y)| x.is_finite() && y.is_finite());
                    assert_eq!(svg.contains("nothing to draw"), !drawn, "{kind:?} {points:?}");
                }
            }
        }
    }

    #[test]
    fn points_stand_where_the_axes_say() {
        let chart = Chart {
            log_y: true,
            series: vec![Series::new("", Kind::Line, 0, vec![(0.0, 1.0), (5.0, 10.0), (10.0, 100.0)])],
            ..Chart::default()
        };
        let svg = chart.svg();
        let circles = svg.split("<circle ").skip(1).map(|circle| {
            let numbers: Vec<f64> = circle.split('"').skip(1).step_by(2).take(2).map(|n| n.parse().unwrap()).collect();
            (numbers[0], numbers[1])
        });
        let circles: Vec<(f64, f64)> = circles.collect();
        assert_eq!(circles.len(), 3);
        // Equal ratios are equal distances, y grows upwards, and x ends where half of its widest label still fits.
        assert!((circles[2].0 - WIDTH + 12.0 + text_width("10") / 2.0).abs() < 0.1, "{circles:?}");
        assert!((circles[0].0 + circles[2].0 - 2.0 * circles[1].0).abs() < 0.2, "{circles:?}");
        assert!((circles[0].1 + circles[2].1 - 2.0 * circles[1].1).abs() < 0.2, "{circles:?}");
        assert!(circles[0].1 > circles[1].1);
        for tick in [">1<", ">10<", ">100<", ">50<"] {
            assert!(svg.contains(tick), "{tick}");
        }
    }

    #[test]
    fn a_line_of_many_points_keeps_its_extremes() {
        let mut points: Vec<(f64, f64)> = (0..100_000).map(|at| (f64::from(at), 0.0)).collect();
        points[77_777].1 = 5.0;
        points[12_345].1 = -3.0;
        let thinned = thin(&points);
        assert!(thinned.len() <= 1200 && thinned.is_sorted_by(|a, b| a.0 <= b.0));
        assert!(thinned.contains(&points[77_777]) && thinned.contains(&points[12_345]));
    }
}
