//! Prints a [`Query`] as parameters.

use super::{Facet, FacetNode, Filter, Operand, Query};

impl Query {
    /// Prints the query as parameters. Parsing them gives the same query.
    pub fn to_params(&self) -> Vec<(String, String)> {
        let mut params: Vec<(String, String)> = Vec::new();
        let mut put = |name: &str, value: String| params.push((name.to_owned(), value));
        for filter in &self.filters {
            put(&filter.field.name(), filter.value_text());
        }
        if let Some(text) = &self.text {
            put("q", text.clone());
        }
        if self.facets.is_empty() {
            put("_facets", String::new());
        }
        // All facets are printed, so their order is kept and no default is added.
        for node in &self.facets {
            put("_facets", node.facet.param());
        }
        for node in self.facets.iter().filter(|node| !node.children.is_empty()) {
            print_children(node, &mut Vec::new(), &mut put);
        }
        let mut intervals = Vec::new();
        collect_intervals(&self.facets, &mut intervals);
        for (name, interval) in intervals {
            put(&format!("_histogram_interval.{name}"), interval);
        }
        put("_facets_size", self.facets_size.to_string());
        for column in &self.columns {
            put("_columns", column.name());
        }
        if self.columns.is_empty() {
            put("_columns", String::new());
        }
        for sort in &self.sort {
            let sign = if sort.is_descending { "-" } else { "" };
            put("_sort", format!("{sign}{}", sort.field.name()));
        }
        put("_results_number", self.results_number.to_string());
        put("_results_offset", self.results_offset.to_string());
        params
    }
}

impl Filter {
    /// The parameter's value: negation, operator, operand.
    pub(crate) fn value_text(&self) -> String {
        let not = if self.is_negated { "!" } else { "" };
        let operand = match &self.operand {
            Operand::None => String::new(),
            Operand::Text(text) => text.clone(),
            Operand::Integer(number) => number.to_string(),
            Operand::Float(number) => number.to_string(),
            Operand::Bool(value) => value.to_string(),
            Operand::Date(moment) => moment.rfc3339(),
        };
        format!("{not}{}{operand}", self.op.prefix())
    }
}

impl Facet {
    /// Its name in a facet parameter.
    fn param(&self) -> String {
        let name = self.field().name();
        match self {
            Self::Terms(_) => name,
            Self::DateHistogram(..) | Self::Histogram(..) => format!("_histogram.{name}"),
            Self::Cardinality(_) => format!("_cardinality.{name}"),
        }
    }
}

fn print_children(node: &FacetNode, path: &mut Vec<String>, put: &mut impl FnMut(&str, String)) {
    let kind = match node.facet {
        Facet::DateHistogram(..) | Facet::Histogram(..) => "_histogram",
        _ => "_aggs",
    };
    path.push(node.facet.field().name());
    for child in &node.children {
        if child.children.is_empty() {
            put(&format!("{kind}.{}", path.join(".")), child.facet.param());
        } else {
            print_children(child, path, put);
        }
    }
    path.pop();
}

fn collect_intervals(nodes: &[FacetNode], found: &mut Vec<(String, String)>) {
    for node in nodes {
        let interval = match &node.facet {
            Facet::DateHistogram(field, interval) => Some((field.name(), interval.name().into())),
            Facet::Histogram(field, width) => Some((field.name(), width.to_string())),
            Facet::Terms(_) | Facet::Cardinality(_) => None,
        };
        if let Some(interval) = interval
            && !found.contains(&interval)
        {
            found.push(interval);
        }
        collect_intervals(&node.children, found);
    }
}
