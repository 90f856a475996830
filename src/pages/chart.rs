//! Charts: SVG drawn on the server, with the figures in a table behind.
//!
//! Texts keep their size on every screen: each chart is drawn for two widths, and the stylesheet
//! shows the one that fits. Colours are classes of the stylesheet.

use maud::{Markup, html};

use super::number;

/// Series that a chart tells apart by colour.
pub const SERIES_MAX: usize = 5;

/// Bars of counts, one upon the other.
pub struct Stack {
    pub title: String,
    /// What is counted, for the axis and the marks.
    pub unit: String,
    /// What a bar is, for the table.
    pub bar: &'static str,
    pub bars: Vec<Bar>,
    /// From the bottom up.
    pub series: Vec<Series>,
}

pub struct Bar {
    pub label: String,
    /// The search that counts all of it.
    pub href: String,
}

pub struct Series {
    pub name: String,
    /// A count for each bar, with the search that counts it.
    pub values: Vec<(u64, String)>,
}

/// A width class: the drawing's measures in pixels.
struct Canvas {
    class: &'static str,
    width: f64,
    height: f64,
    /// Room that the label of a bar takes.
    label: f64,
}

const CANVASES: [Canvas; 2] = [
    Canvas {
        class: "chart wide",
        width: 720.0,
        height: 200.0,
        label: 52.0,
    },
    Canvas {
        class: "chart narrow",
        width: 320.0,
        height: 180.0,
        label: 52.0,
    },
];
const LEFT: f64 = 40.0;
const TOP: f64 = 22.0;
const BOTTOM: f64 = 22.0;

impl Stack {
    fn total(&self, bar: usize) -> u64 {
        self.series.iter().map(|series| series.values[bar].0).sum()
    }

    pub fn is_empty(&self) -> bool {
        (0..self.bars.len()).all(|bar| self.total(bar) == 0)
    }

    pub fn markup(&self) -> Markup {
        let totals = (0..self.bars.len()).map(|bar| self.total(bar));
        let step = step(totals.max().unwrap_or(0));
        html! {
            figure.stacked {
                figcaption { (self.title) }
                div.drawing {
                    div { @for canvas in &CANVASES { (self.svg(canvas, step)) } }
                    @if self.series.len() > 1 {
                        ul.key aria-label="Series, as they are stacked" {
                            @for (at, series) in self.series.iter().enumerate().rev() {
                                li { svg viewBox="0 0 10 10" aria-hidden="true" { rect class=(class(at)) width="10" height="10" rx="2" {} } (super::shown(&series.name)) }
                            }
                        }
                    }
                }
            }
        }
    }

    /// The figures behind the drawing.
    pub fn table(&self) -> Markup {
        html! {
            details {
                summary { "Figures" }
                div.scroll {
                    table {
                        thead { tr {
                            th { (self.bar) }
                            @for series in self.series.iter().rev() { th.num { (super::shown(&series.name)) } }
                            @if self.series.len() > 1 { th.num { "all" } }
                        } }
                        tbody {
                            @for (at, bar) in self.bars.iter().enumerate().rev() {
                                tr {
                                    td.nowrap { (bar.label) }
                                    @for series in self.series.iter().rev() {
                                        @let (count, href) = &series.values[at];
                                        td.num { (counted(*count, href)) }
                                    }
                                    @if self.series.len() > 1 { td.num { (counted(self.total(at), &bar.href)) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    fn svg(&self, canvas: &Canvas, step: u64) -> Markup {
        let (width, height) = (canvas.width, canvas.height);
        let highest = (0..self.bars.len()).map(|bar| self.total(bar)).max();
        let top = highest.unwrap_or(0).div_ceil(step).max(1) * step;
        let floor = height - BOTTOM;
        let scale = (floor - TOP) / top as f64;
        let room = (width - LEFT) / self.bars.len().max(1) as f64;
        let every = (canvas.label / room).ceil().max(1.0) as usize;
        let last = self.bars.len().saturating_sub(1);
        html! {
            svg class=(canvas.class) viewBox={ "0 0 " (width) " " (height) } width=(width) height=(height) role="img"
                aria-label={ (self.title) "; the table below has the figures" } {
                text x="0" y="10" { (self.unit) }
                @for tick in (0..=top / step).map(|n| n * step) {
                    @let y = at(floor - tick as f64 * scale);
                    line.axis x1=(LEFT) x2=(width) y1=(y) y2=(y) {}
                    text x=(LEFT - 6.0) y=(at(floor - tick as f64 * scale + 4.0)) text-anchor="end" { (number(tick)) }
                }
                @for (bar, Bar { label, .. }) in self.bars.iter().enumerate() {
                    @let x = LEFT + bar as f64 * room;
                    @for (series, base) in self.bases(bar) {
                        @let (count, _) = &self.series[series].values[bar];
                        @if *count > 0 {
                            rect class=(class(series)) x=(at(x + room * 0.08)) width=(at(room * 0.84))
                                y=(at(floor - (base + count) as f64 * scale)) height=(at(*count as f64 * scale)) {
                                title { (label) ", " (self.series[series].name) ": " (number(*count)) " " (self.unit) }
                            }
                        }
                    }
                    // Counted from the newest, which is always named.
                    @if (last - bar).is_multiple_of(every) {
                        text x=(at(x + room / 2.0)) y=(height - 6.0) text-anchor="middle" { (label) }
                    }
                }
            }
        }
    }

    /// Each series with what is stacked below it.
    fn bases(&self, bar: usize) -> Vec<(usize, u64)> {
        let mut base = 0;
        let mut bases = Vec::with_capacity(self.series.len());
        for (at, series) in self.series.iter().enumerate() {
            bases.push((at, base));
            base += series.values[bar].0;
        }
        bases
    }
}

fn counted(count: u64, href: &str) -> Markup {
    html! { @if count == 0 { span.faint { "0" } } @else { a href=(href) { (number(count)) } } }
}

fn class(series: usize) -> String {
    format!("s{}", series % SERIES_MAX + 1)
}

/// A coordinate, to a tenth of a pixel.
fn at(value: f64) -> String {
    format!("{value:.1}")
}

/// The distance of ticks: 1, 2 or 5 times a power of ten, for at most five of them.
fn step(highest: u64) -> u64 {
    let mut power = 1;
    loop {
        for factor in [1, 2, 5] {
            if highest.div_ceil(factor * power) <= 5 {
                return factor * power;
            }
        }
        power = match power.checked_mul(10) {
            Some(power) => power,
            None => return highest,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        fn check(highest: u64, expected: u64) {
            assert_eq!(step(highest), expected, "{highest}");
        }
        check(0, 1);
        check(5, 1);
        check(6, 2);
        check(11, 5);
        check(26, 10);
        check(263, 100);
        check(8_417, 2_000);
        check(u64::MAX / 100, 50_000_000_000_000_000);
    }

    #[test]
    fn a_stack_names_every_mark_and_lists_its_series_from_the_top() {
        let values = |counts: [u64; 2]| counts.map(|n| (n, format!("/{n}"))).to_vec();
        let bar = |label: &str| Bar {
            label: label.into(),
            href: format!("/{label}"),
        };
        let series = |name: &str, counts| Series {
            name: name.into(),
            values: values(counts),
        };
        let stack = Stack {
            title: "Crashes per day".into(),
            unit: "crashes".into(),
            bar: "Day",
            bars: vec![bar("21 Nov"), bar("22 Nov")],
            series: vec![series("2.0", [3, 4]), series("<1.0>", [0, 6])],
        };
        let drawn = stack.markup().into_string();
        assert_eq!(drawn.matches("22 Nov, 2.0: 4 crashes").count(), 2);
        assert!(drawn.contains("22 Nov, &lt;1.0&gt;: 6 crashes"));
        assert!(!drawn.contains("21 Nov, &lt;1.0&gt;"), "nothing is no mark");
        assert!(!drawn.contains("style="));
        let key = drawn.split("<ul").nth(1).expect("a key");
        assert!(key.find("&lt;1.0&gt;") < key.find("2.0"));
        let table = stack.table().into_string();
        let newest = table.find("22 Nov").expect("a row");
        assert!(newest < table.find("21 Nov").expect("a row"));
        assert!(table.contains("<a href=\"/22 Nov\">10</a>"), "{table}");
    }
}
