//! Parts that several pages share.
//!
//! - `scope`: the restriction of a page to a product, a version and so on, and reading counts of facets.
//! - `ranking`: signatures ranked by their counts. `daily`: counts per day.
//! - `chart`: draws bars and lines. `split`: counts split by the values of a field, as a chart.
//! - `controls`: the inputs of a page's form. `rule_form`: the form that adds a site rule about a signature.

pub mod chart;
pub mod controls;
pub mod daily;
pub mod ranking;
pub mod rule_form;
pub mod scope;
pub mod split;
