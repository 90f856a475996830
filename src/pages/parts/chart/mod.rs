//! Charts: SVG that is drawn on the server, with the figures in a table below.
//!
//! Text has the same size on every screen. Each chart is drawn in two widths, and the stylesheet shows the
//! one that fits. Colours are classes of the stylesheet.

mod lines;
mod stack;

pub(crate) use lines::{Line, Lines};
pub(crate) use stack::{Bar, Series, Stack};

use maud::{Markup, html};

use crate::pages::number;

/// Maximum number of series that a chart can show in different colours.
pub(crate) const SERIES_MAX: usize = 5;

/// A size of the drawing, in pixels.
struct Canvas {
    class: &'static str,
    width: f64,
    height: f64,
}

const CANVASES: [Canvas; 2] = [
    Canvas {
        class: "chart wide",
        width: 720.0,
        height: 200.0,
    },
    Canvas {
        class: "chart narrow",
        width: 320.0,
        height: 180.0,
    },
];
const LEFT: f64 = 40.0;
const TOP: f64 = 22.0;
const BOTTOM: f64 = 22.0;
/// Width of a label below the drawing.
const LABEL: f64 = 52.0;

/// The scale of the values on a drawing, and its ticks.
struct Scale<'a> {
    canvas: &'a Canvas,
    /// Distance between two ticks.
    step: u64,
    /// The highest tick.
    top: u64,
}

impl<'a> Scale<'a> {
    fn new(canvas: &'a Canvas, highest: u64) -> Self {
        let step = step(highest);
        Self {
            canvas,
            step,
            top: highest.div_ceil(step).max(1) * step,
        }
    }

    fn floor(&self) -> f64 {
        self.canvas.height - BOTTOM
    }

    fn length(&self, value: f64) -> f64 {
        value * (self.floor() - TOP) / self.top as f64
    }

    fn y(&self, value: f64) -> f64 {
        self.floor() - self.length(value)
    }

    /// Width of one position, if there are this many.
    fn free(&self, places: usize) -> f64 {
        (self.canvas.width - LEFT) / places.max(1) as f64
    }

    /// How many positions share one label, so that labels do not overlap.
    fn every(&self, places: usize) -> usize {
        (LABEL / self.free(places)).ceil().max(1.0) as usize
    }

    /// The drawing: unit, ticks and marks.
    fn svg(&self, title: &str, unit: &str, marks: &Markup) -> Markup {
        let Canvas {
            class,
            width,
            height,
        } = self.canvas;
        html! {
            svg class=(class) viewBox={ "0 0 " (width) " " (height) } width=(width) height=(height) role="img"
                aria-label={ (title) "; the table below contains the data" } {
                text x="0" y="10" { (unit) }
                @for tick in (0..=self.top / self.step).map(|n| n * self.step) {
                    @let y = self.y(tick as f64);
                    line.axis x1=(LEFT) x2=(width) y1=(at(y)) y2=(at(y)) {}
                    text x=(LEFT - 6.0) y=(at(y + 4.0)) text-anchor="end" { (number(tick)) }
                }
                (marks)
            }
        }
    }

    /// A label below the drawing.
    fn label(&self, x: f64, text: &str) -> Markup {
        html! { text x=(at(x)) y=(self.canvas.height - 6.0) text-anchor="middle" { (text) } }
    }
}

/// The drawing in all widths with its title and the names of its series, from the top.
fn figure<'a>(
    title: &str,
    names: impl DoubleEndedIterator<Item = &'a str> + ExactSizeIterator,
    draw: impl Fn(&Canvas) -> Markup,
) -> Markup {
    html! {
        figure.stacked {
            figcaption { (title) }
            div.drawing {
                div { @for canvas in &CANVASES { (draw(canvas)) } }
                @if names.len() > 1 {
                    ul.key aria-label="Series in stacking order" {
                        @for (at, name) in names.enumerate().rev() {
                            li { svg viewBox="0 0 10 10" aria-hidden="true" { rect class=(class(at)) width="10" height="10" rx="2" {} } (crate::pages::shown(name)) }
                        }
                    }
                }
            }
        }
    }
}

fn class(series: usize) -> String {
    format!("s{}", series % SERIES_MAX + 1)
}

/// A coordinate with one decimal.
fn at(value: f64) -> String {
    format!("{value:.1}")
}

/// The distance between ticks: 1, 2 or 5 times a power of ten, so that there are at most five ticks.
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
}
