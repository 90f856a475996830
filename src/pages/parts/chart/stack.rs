//! Stacked bar charts of counts.

use maud::{Markup, html};

use super::{Canvas, LEFT, Scale, at, class, figure};
use crate::pages::{number, shown};

/// A stacked bar chart.
pub(crate) struct Stack {
    pub(crate) title: String,
    /// The counted things, for the axis and the marks.
    pub(crate) unit: String,
    /// The unit of a bar, for the table.
    pub(crate) bar: &'static str,
    pub(crate) bars: Vec<Bar>,
    /// From bottom to top.
    pub(crate) series: Vec<Series>,
}

pub(crate) struct Bar {
    /// The label in the table.
    pub(crate) label: String,
    /// The shorter label below the drawing.
    pub(crate) tick: String,
    /// The search that counts all crashes of the bar.
    pub(crate) href: String,
}

pub(crate) struct Series {
    pub(crate) name: String,
    /// One count per bar, with the search that counts it.
    pub(crate) values: Vec<(u64, String)>,
}

impl Stack {
    fn total(&self, bar: usize) -> u64 {
        self.series.iter().map(|series| series.values[bar].0).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        (0..self.bars.len()).all(|bar| self.total(bar) == 0)
    }

    pub(crate) fn markup(&self) -> Markup {
        let names = self.series.iter().map(|series| &*series.name);
        figure(&self.title, names, |canvas| self.svg(canvas))
    }

    /// A table with the figures.
    pub(crate) fn table(&self) -> Markup {
        html! {
            details {
                summary { "Data" }
                div.scroll {
                    table {
                        thead { tr {
                            th { (self.bar) }
                            @for series in self.series.iter().rev() { th.num { (shown(&series.name)) } }
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

    fn svg(&self, canvas: &Canvas) -> Markup {
        let highest = (0..self.bars.len()).map(|bar| self.total(bar)).max();
        let scale = Scale::new(canvas, highest.unwrap_or(0));
        let room = scale.free(self.bars.len());
        let every = scale.every(self.bars.len());
        let last = self.bars.len().saturating_sub(1);
        let marks = html! {
            @for (bar, Bar { label, tick, .. }) in self.bars.iter().enumerate() {
                @let x = LEFT + bar as f64 * room;
                @for (series, base) in self.bases(bar) {
                    @let (count, _) = &self.series[series].values[bar];
                    @if *count > 0 {
                        rect class=(class(series)) x=(at(x + room * 0.08)) width=(at(room * 0.84))
                            y=(at(scale.y((base + count) as f64))) height=(at(scale.length(*count as f64))) {
                            title { (label) ", " (self.series[series].name) ": " (number(*count)) " " (self.unit) }
                        }
                    }
                }
                // Counted from the newest bar, which always has a label.
                @if (last - bar).is_multiple_of(every) { (scale.label(x + room / 2.0, tick)) }
            }
        };
        scale.svg(&self.title, &self.unit, &marks)
    }

    /// Each series, with the sum of the series below it.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_names_every_mark_and_lists_its_series_from_the_top() {
        let values = |counts: [u64; 2]| counts.map(|n| (n, format!("/{n}"))).to_vec();
        let bar = |label: &str| Bar {
            label: label.into(),
            tick: label.into(),
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
