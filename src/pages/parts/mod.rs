//! Parts that several pages share.
//!
//! - `scope`: the restriction of a page to a product, a version and so on, and reading counts of facets.
//! - `ranking`: signatures ranked by their counts. `daily`: counts per day.
//! - `chart`: draws bars and lines. `split`: counts split by the values of a field, as a chart.
//! - `controls`: the inputs of a page's form. `rule_form`: the form that adds a site rule about a signature.

pub(crate) mod chart;
pub(crate) mod controls;
pub(crate) mod daily;
pub(crate) mod ranking;
pub(crate) mod rule_form;
pub(crate) mod scope;
pub(crate) mod split;
