//! Line charts of measured values. All lines start at the same position.

use maud::{Markup, html};

use super::{Canvas, LEFT, Scale, at, class, figure};
use crate::pages::shown;

/// One line per series. A position without a value interrupts the line.
pub(crate) struct Lines {
    pub(crate) title: String,
    /// The measured quantity, for the axis and the marks.
    pub(crate) unit: String,
    /// What a position is, for the table.
    pub(crate) place: &'static str,
    /// Names of the positions, from the left.
    pub(crate) places: Vec<String>,
    pub(crate) lines: Vec<Line>,
}

pub(crate) struct Line {
    pub(crate) name: String,
    /// One value per position.
    pub(crate) values: Vec<Option<f64>>,
}

impl Lines {
    pub(crate) fn is_empty(&self) -> bool {
        self.lines
            .iter()
            .all(|line| line.values.iter().all(Option::is_none))
    }

    pub(crate) fn markup(&self) -> Markup {
        let names = self.lines.iter().map(|line| &*line.name);
        figure(&self.title, names, |canvas| self.svg(canvas))
    }

    /// A table with the figures.
    pub(crate) fn table(&self) -> Markup {
        html! {
            details {
                summary { "Data" }
                div.scroll {
                    table {
                        thead { tr { th { (self.place) } @for line in self.lines.iter().rev() { th.num { (shown(&line.name)) } } } }
                        tbody {
                            @for (at, place) in self.places.iter().enumerate() {
                                @if self.lines.iter().any(|line| line.values[at].is_some()) {
                                    tr {
                                        td.nowrap { (place) }
                                        @for line in self.lines.iter().rev() { td.num { @match line.values[at] { Some(value) => (measure(value)), None => span.faint { "–" } } } }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    fn svg(&self, canvas: &Canvas) -> Markup {
        let values = self
            .lines
            .iter()
            .flat_map(|line| line.values.iter().flatten());
        let highest = values.copied().fold(0.0, f64::max).ceil() as u64;
        let scale = Scale::new(canvas, highest);
        let room = scale.free(self.places.len());
        let every = scale.every(self.places.len());
        let x = |place: usize| LEFT + (place as f64 + 0.5) * room;
        let marks = html! {
            @for (place, name) in self.places.iter().enumerate() {
                @if place.is_multiple_of(every) { (scale.label(x(place), name)) }
            }
            @for (series, line) in self.lines.iter().enumerate() {
                @for run in runs(&line.values) {
                    polyline class=(class(series)) points=(points(run.clone().map(|(place, value)| (x(place), scale.y(value))))) {}
                }
                @for (place, value) in line.values.iter().enumerate() {
                    @if let Some(value) = value {
                        circle class=(class(series)) cx=(at(x(place))) cy=(at(scale.y(*value))) r="2.5" {
                            title { (line.name) ", " (self.place.to_lowercase()) " " (self.places[place]) ": " (measure(*value)) " " (self.unit) }
                        }
                    }
                }
            }
        };
        scale.svg(&self.title, &self.unit, &marks)
    }
}

/// The runs of values without a gap, with the position of each value.
fn runs(
    values: &[Option<f64>],
) -> impl Iterator<Item = impl Iterator<Item = (usize, f64)> + Clone> {
    let mut start = 0;
    values.split(Option::is_none).filter_map(move |run| {
        let from = start;
        start += run.len() + 1;
        let placed = run.iter().flatten().enumerate();
        (run.len() > 1).then(|| placed.map(move |(at, value)| (from + at, *value)))
    })
}

fn points(points: impl Iterator<Item = (f64, f64)>) -> String {
    points
        .map(|(x, y)| format!("{},{}", at(x), at(y)))
        .collect::<Vec<_>>()
        .join(" ")
}

fn measure(value: f64) -> String {
    format!("{value:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_breaks_the_line_and_every_value_is_a_mark() {
        let lines = Lines {
            title: "Time between crashes".into(),
            unit: "hours".into(),
            place: "Day",
            places: (0..5).map(|day| day.to_string()).collect(),
            lines: vec![Line {
                name: "<1.0>".into(),
                values: vec![Some(1.0), Some(2.5), None, None, Some(4.0)],
            }],
        };
        let drawn = lines.markup().into_string();
        assert_eq!(drawn.matches("<polyline").count(), 2, "one a width");
        assert_eq!(drawn.matches("<circle").count(), 6);
        assert!(drawn.contains("&lt;1.0&gt;, day 1: 2.5 hours"), "{drawn}");
        let table = lines.table().into_string();
        assert_eq!(
            table.matches("<tr>").count(),
            4,
            "days without a value are no rows"
        );
    }

    #[test]
    fn runs_know_their_places() {
        let places = |values: &[Option<f64>]| -> Vec<Vec<usize>> {
            runs(values)
                .map(|run| run.map(|(at, _)| at).collect())
                .collect()
        };
        let (x, o) = (Some(1.0), None);
        assert_eq!(
            places(&[x, x, o, x, o, o, x, x, x]),
            [vec![0, 1], vec![6, 7, 8]]
        );
        assert_eq!(places(&[o, o]), Vec::<Vec<usize>>::new());
    }
}
