//! Counts documents by value, exactly and to any depth.
//!
//! Facets are counted one level at a time. Those at the top are counted over all matching documents. When it
//! is known which values the answer lists, the facets inside them are counted, for the listed values only. So
//! memory depends on the size of the answer and not on the number of values. tantivy's own aggregations are
//! not used, because their counts of texts are approximate over several segments (ADR 6).
//!
//! 1. [`Counting::open`] prepares the facets of a level for a segment. Texts are counted by the numbers of
//!    the entries in its dictionary.
//! 2. [`Part::count`] counts the segment's documents, one block after the other.
//! 3. [`Counting::add`] adds the counts of a segment. [`Counting::keep`] selects the values that are listed,
//!    when the level is done.

use std::collections::{HashMap, HashSet};

use tantivy::{SegmentReader, f64_to_u64, i64_to_u64, u64_to_f64, u64_to_i64};

use super::bounds::Running;
use super::columns::{Bits, FieldColumn, Pairs};
use super::error::IndexError;
use super::filter::Ground;
use super::terms::TextColumn;
use super::top::Top;
use super::unique::{KeyHash, Unique, hash_number};
use crate::clock::{DAY_MS, Timestamp};
use crate::fields::Kind;
use crate::fields::version::VersionKey;
use crate::limits;
use crate::query::{Facet, FacetNode, Interval, Query};

/// Limit of cells (listed values times entries) up to which a table is a plain array.
const CELLS_MAX: usize = 1 << 20;
/// Bytes of an entry in a hash map of counts, including free space of the map.
const ENTRY_BYTES: usize = 48;

/// A value that is counted. Sorts like the answer does for values with the same count.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Text(Box<str>),
    /// A value of a column of numbers, or the start of a histogram's interval as a float or date.
    Number(u64),
}

/// A value that is listed.
#[derive(Debug)]
pub struct Bucket {
    /// Position of the listed value that contains it, in the list of the parent facet.
    pub parent: u32,
    pub key: Key,
    pub count: u64,
}

impl Bucket {
    /// Memory of the bucket here and in the answer.
    fn bytes(&self) -> usize {
        let text = match &self.key {
            Key::Text(text) => text.len(),
            Key::Number(_) => 0,
        };
        2 * (text + std::mem::size_of::<Self>()) + 100
    }
}

/// A facet of the query.
pub struct Node<'q> {
    pub facet: &'q Facet,
    parent: Option<usize>,
    level: usize,
    pub children: Vec<usize>,
    counts: Counts,
    /// The listed values, sorted by parent and then as in the answer.
    pub listed: Vec<Bucket>,
    listed_bytes: usize,
    /// One set per parent, if distinct values are counted.
    pub unique: Vec<Unique>,
    unique_bytes: isize,
    /// A value that occurred several times in a row, not yet added to `counts`.
    run: Option<((u32, u64), u64)>,
}

/// Counts of a level while its segments are processed.
enum Counts {
    /// Texts at the top level.
    Top(Top),
    /// By parent and value. The value of a text is its number in the interner.
    Inside(HashMap<(u32, u64), u64, KeyHash>),
}

/// The facets of one query.
pub struct Counting<'q> {
    pub nodes: Vec<Node<'q>>,
    pub top: Vec<usize>,
    size: usize,
    interner: Interner,
}

impl<'q> Counting<'q> {
    pub fn new(query: &'q Query) -> Self {
        let mut nodes = Vec::new();
        let top = match query.facets_size {
            0 => Vec::new(),
            _ => plant(&query.facets, None, 0, &mut nodes),
        };
        Self {
            nodes,
            top,
            size: query.facets_size,
            interner: Interner::default(),
        }
    }

    /// Number of levels of nested facets.
    pub fn levels(&self) -> usize {
        self.nodes
            .iter()
            .map(|node| node.level + 1)
            .max()
            .unwrap_or(0)
    }

    /// Prepares the facets of a level for a segment.
    pub fn open(
        &self,
        level: usize,
        segment: &SegmentReader,
        ground: Ground,
    ) -> Result<Part, IndexError> {
        let mut part = Part {
            above: Vec::new(),
            counted: Vec::new(),
            pairs: Pairs::default(),
        };
        for (at, node) in self.nodes.iter().enumerate() {
            if node.level != level {
                continue;
            }
            let above = match node.parent {
                Some(parent) => Some(self.open_above(parent, segment, ground, &mut part.above)?),
                None => None,
            };
            let column = ground.column(segment, node.facet.field())?;
            let parents = node
                .parent
                .map_or(1, |parent| self.nodes[parent].listed.len());
            let tally = Tally::new(node, &column, parents);
            ground.running.check_bytes(self.bytes() + tally.bytes())?;
            part.counted.push(Counted {
                node: at,
                above,
                values: Values::new(node.facet),
                column,
                tally,
            });
        }
        Ok(part)
    }

    /// Looks up the listed values of a facet, and of the facets around it, in a segment. Returns its position
    /// in `above`.
    fn open_above(
        &self,
        at: usize,
        segment: &SegmentReader,
        ground: Ground,
        above: &mut Vec<Above>,
    ) -> Result<usize, IndexError> {
        if let Some(known) = above.iter().position(|above| above.node == at) {
            return Ok(known);
        }
        let node = &self.nodes[at];
        let parent = match node.parent {
            Some(parent) => Some(self.open_above(parent, segment, ground, above)?),
            None => None,
        };
        let column = ground.column(segment, node.facet.field())?;
        let mut places = HashMap::with_capacity_and_hasher(node.listed.len(), KeyHash::default());
        for (place, bucket) in node.listed.iter().enumerate() {
            let value = match (&bucket.key, &column) {
                (Key::Number(number), _) => Some(*number),
                (Key::Text(text), FieldColumn::Text(column)) => column.ord_of(text)?,
                (Key::Text(_), _) => None,
            };
            if let Some(value) = value {
                places.insert((bucket.parent, value), place as u32);
            }
        }
        above.push(Above {
            node: at,
            parent,
            values: Values::new(node.facet),
            column,
            places,
            found: Vec::new(),
        });
        Ok(above.len() - 1)
    }

    /// Adds the counts of a segment.
    pub fn add(&mut self, part: Part, running: &Running) -> Result<(), IndexError> {
        for counted in part.counted {
            let node = &mut self.nodes[counted.node];
            match (counted.tally, counted.column) {
                (Tally::Entries(counts), FieldColumn::Text(column)) => {
                    if let Counts::Top(top) = &mut node.counts {
                        top.add(column, counts);
                    }
                }
                (Tally::Cells { width, counts }, FieldColumn::Text(column)) => {
                    let cells = counts.iter().enumerate().filter(|(_, count)| **count > 0);
                    let found = cells
                        .map(|(at, count)| ((at % width) as u64, (at / width) as u32, *count))
                        .collect();
                    self.add_texts(counted.node, &column, found, running)?;
                }
                (Tally::Sparse(counts), FieldColumn::Text(column)) => {
                    let found = counts
                        .into_iter()
                        .map(|((parent, ord), count)| (ord, parent, count))
                        .collect();
                    self.add_texts(counted.node, &column, found, running)?;
                }
                (Tally::SeenEntries { width, seen }, FieldColumn::Text(column)) => {
                    let seen = seen
                        .iter()
                        .map(|at| ((at % width) as u64, (at / width) as u32));
                    node.add_unique(&column, seen.collect(), running)?;
                }
                (Tally::Seen(seen), FieldColumn::Text(column)) => {
                    let seen = seen.into_iter().map(|(parent, ord)| (ord, parent));
                    node.add_unique(&column, seen.collect(), running)?;
                }
                _ => {}
            }
            running.check_bytes(self.bytes())?;
        }
        Ok(())
    }

    /// Adds counts of entries inside listed values.
    fn add_texts(
        &mut self,
        at: usize,
        column: &TextColumn,
        mut found: Vec<(u64, u32, u32)>,
        running: &Running,
    ) -> Result<(), IndexError> {
        found.sort_unstable();
        let held = self.bytes() + found.len() * 16;
        running.check_bytes(held)?;
        let Counts::Inside(all) = &mut self.nodes[at].counts else {
            return Ok(());
        };
        let mut ords: Vec<u64> = found.iter().map(|(ord, ..)| *ord).collect();
        ords.dedup();
        let mut rest = found.into_iter().peekable();
        let interner = &mut self.interner;
        let before = interner.bytes;
        column.each_of(&ords, running, |ord, text| {
            let key = interner.key(text);
            while let Some((_, parent, count)) = rest.next_if(|(at, ..)| *at == ord) {
                *all.entry((parent, key)).or_default() += u64::from(count);
            }
            running.check_bytes(held + interner.bytes - before + all.len() * ENTRY_BYTES)
        })
    }

    /// Selects the values of a level that are listed.
    pub fn keep(&mut self, level: usize, running: &Running) -> Result<(), IndexError> {
        for at in 0..self.nodes.len() {
            if self.nodes[at].level != level {
                continue;
            }
            let held = self.bytes();
            let node = &mut self.nodes[at];
            let kind = node.facet.field().kind();
            let counts = std::mem::replace(&mut node.counts, Counts::Inside(HashMap::default()));
            node.listed = match counts {
                Counts::Top(top) => top.finish(kind, self.size, held, running)?,
                Counts::Inside(counts) => {
                    running.check_bytes(held + counts.len() * 40)?;
                    let is_histogram = node.facet.is_histogram();
                    let found = counts.into_iter().collect();
                    let order = Order {
                        kind,
                        texts: kind.is_text().then_some(&self.interner),
                        is_histogram,
                        size: self.size,
                    };
                    order.listed(found, running)?
                }
            };
            node.listed_bytes = node.listed.iter().map(Bucket::bytes).sum();
            // Prepare the sets in which the values inside them are counted.
            let parents = self.nodes[at].listed.len();
            for child in self.nodes[at].children.clone() {
                if let Facet::Cardinality(_) = self.nodes[child].facet {
                    self.nodes[child].unique = unique(parents);
                }
            }
            running.check_bytes(self.bytes())?;
        }
        Ok(())
    }

    /// Memory of all counts and listed values.
    pub fn bytes(&self) -> usize {
        let nodes = self.nodes.iter().map(|node| {
            let counts = match &node.counts {
                Counts::Top(top) => top.bytes(),
                Counts::Inside(counts) => counts.capacity() * ENTRY_BYTES,
            };
            counts + node.listed_bytes + node.unique.len() * 64 + node.unique_bytes.max(0) as usize
        });
        nodes.sum::<usize>() + self.interner.bytes
    }
}

fn unique(parents: usize) -> Vec<Unique> {
    (0..parents).map(|_| Unique::default()).collect()
}

/// Adds the facets to `nodes`, each after the facet around it. Returns the positions of `facets`.
fn plant<'q>(
    facets: &'q [FacetNode],
    parent: Option<usize>,
    level: usize,
    nodes: &mut Vec<Node<'q>>,
) -> Vec<usize> {
    let mut places = Vec::new();
    for FacetNode { facet, children } in facets {
        let at = nodes.len();
        let is_unique = matches!(facet, Facet::Cardinality(_));
        let is_text = facet.field().kind().is_text() && !facet.is_histogram();
        nodes.push(Node {
            facet,
            parent,
            level,
            children: Vec::new(),
            counts: if is_text && level == 0 && !is_unique {
                Counts::Top(Top::default())
            } else {
                Counts::Inside(HashMap::default())
            },
            listed: Vec::new(),
            listed_bytes: 0,
            unique: unique(usize::from(is_unique && level == 0)),
            unique_bytes: 0,
            run: None,
        });
        nodes[at].children = plant(children, Some(at), level + 1, nodes);
        places.push(at);
    }
    places
}

impl Node<'_> {
    fn add_number(&mut self, parent: u32, value: u64) {
        if let Facet::Cardinality(_) = self.facet {
            self.unique_bytes += self.unique[parent as usize].insert(hash_number(value));
            return;
        }
        // Neighbouring documents are mostly in the same interval.
        match &mut self.run {
            Some((known, count)) if *known == (parent, value) => *count += 1,
            _ => {
                self.end_run();
                self.run = Some(((parent, value), 1));
            }
        }
    }

    fn end_run(&mut self) {
        if let (Some((key, count)), Counts::Inside(counts)) = (self.run.take(), &mut self.counts) {
            *counts.entry(key).or_default() += count;
        }
    }

    /// Adds entries that occurred inside listed values.
    fn add_unique(
        &mut self,
        column: &TextColumn,
        mut seen: Vec<(u64, u32)>,
        running: &Running,
    ) -> Result<(), IndexError> {
        seen.sort_unstable();
        let mut ords: Vec<u64> = seen.iter().map(|(ord, _)| *ord).collect();
        ords.dedup();
        let mut rest = seen.into_iter().peekable();
        column.each_hash_of(&ords, running, |ord, hash| {
            while let Some((_, parent)) = rest.next_if(|(at, _)| *at == ord) {
                self.unique_bytes += self.unique[parent as usize].insert(hash);
            }
            running.check_bytes(self.unique_bytes.max(0) as usize)
        })
    }
}

/// The facets of a level in one segment.
pub struct Part {
    /// The facets around those that are counted, outer ones first.
    above: Vec<Above>,
    counted: Vec<Counted>,
    pairs: Pairs,
}

/// A facet whose listed values are known.
struct Above {
    node: usize,
    /// Position of the facet around it, in the same list.
    parent: Option<usize>,
    column: FieldColumn,
    values: Values,
    /// Positions of the listed values, by parent and value.
    places: HashMap<(u32, u64), u32, KeyHash>,
    /// For the current block: documents and the listed values that they have.
    found: Vec<(u32, u32)>,
}

struct Counted {
    node: usize,
    above: Option<usize>,
    column: FieldColumn,
    values: Values,
    tally: Tally,
}

/// The counts of one segment.
enum Tally {
    Nothing,
    /// By entry.
    Entries(Vec<u32>),
    /// By parent and entry, `width` entries per parent.
    Cells {
        width: usize,
        counts: Vec<u32>,
    },
    /// By parent and entry.
    Sparse(HashMap<(u32, u64), u32, KeyHash>),
    SeenEntries {
        width: usize,
        seen: Bits,
    },
    Seen(HashSet<(u32, u64), KeyHash>),
    /// Numbers have the same meaning in all segments, so they are added to the facet directly.
    Numbers,
}

impl Tally {
    fn new(node: &Node, column: &FieldColumn, parents: usize) -> Self {
        let is_unique = matches!(node.facet, Facet::Cardinality(_));
        match column {
            _ if parents == 0 => Self::Nothing,
            FieldColumn::Missing => Self::Nothing,
            FieldColumn::Number(_) => Self::Numbers,
            FieldColumn::Text(column) => {
                let width = column.len();
                let cells = width.saturating_mul(parents);
                match (is_unique, node.parent) {
                    (true, parent) if parent.is_none() || cells <= 8 * CELLS_MAX => {
                        Self::SeenEntries {
                            width,
                            seen: Bits::new(cells),
                        }
                    }
                    (true, _) => Self::Seen(HashSet::default()),
                    (false, None) => Self::Entries(vec![0; width]),
                    (false, Some(_)) if cells <= CELLS_MAX => Self::Cells {
                        width,
                        counts: vec![0; cells],
                    },
                    (false, Some(_)) => Self::Sparse(HashMap::default()),
                }
            }
        }
    }

    fn add(&mut self, parent: u32, value: u64) {
        match self {
            Self::Nothing | Self::Numbers => {}
            Self::Entries(counts) => counts[value as usize] += 1,
            Self::Cells { width, counts } => {
                counts[parent as usize * *width + value as usize] += 1;
            }
            Self::Sparse(counts) => *counts.entry((parent, value)).or_default() += 1,
            Self::SeenEntries { width, seen } => {
                seen.set(parent as usize * *width + value as usize)
            }
            Self::Seen(seen) => {
                seen.insert((parent, value));
            }
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Nothing | Self::Numbers => 0,
            Self::Entries(counts) | Self::Cells { counts, .. } => 4 * counts.len(),
            Self::Sparse(counts) => counts.capacity() * ENTRY_BYTES,
            Self::SeenEntries { seen, .. } => seen.memory(),
            Self::Seen(seen) => seen.capacity() * ENTRY_BYTES,
        }
    }
}

impl Part {
    /// Counts a block of documents.
    pub fn count(
        &mut self,
        docs: &[u32],
        counting: &mut Counting,
        running: &Running,
    ) -> Result<(), IndexError> {
        for at in 0..self.above.len() {
            let (outer, rest) = self.above.split_at_mut(at);
            let above = &mut rest[0];
            above.found.clear();
            let Some(column) = above.column.numbers() else {
                continue;
            };
            self.pairs.read(column, docs);
            let around = above.parent.map(|parent| &outer[parent].found[..]);
            let (values, places, found) = (&mut above.values, &above.places, &mut above.found);
            inside(around, &self.pairs, |doc, parent, value| {
                if let Some(place) = places.get(&(parent, values.of(value))) {
                    found.push((doc, *place));
                }
            });
        }
        let mut bytes = counting.bytes();
        for counted in &mut self.counted {
            let Some(column) = counted.column.numbers() else {
                continue;
            };
            self.pairs.read(column, docs);
            let (values, tally) = (&mut counted.values, &mut counted.tally);
            match (counted.above, &mut *tally, &*values) {
                // The most frequent cases, without indirection.
                (None, Tally::Entries(counts), Values::Same) => {
                    for ord in self.pairs.values() {
                        counts[*ord as usize] += 1;
                    }
                }
                (None, Tally::SeenEntries { seen, .. }, Values::Same) => {
                    for ord in self.pairs.values() {
                        seen.set(*ord as usize);
                    }
                }
                (above, tally, _) => {
                    let around = above.map(|above| &self.above[above].found[..]);
                    let node = &mut counting.nodes[counted.node];
                    match tally {
                        Tally::Numbers => inside(around, &self.pairs, |_, parent, value| {
                            node.add_number(parent, values.of(value));
                        }),
                        tally => inside(around, &self.pairs, |_, parent, value| {
                            tally.add(parent, value);
                        }),
                    }
                    node.end_run();
                }
            }
            bytes += counted.tally.bytes();
        }
        running.check_bytes(bytes)
    }
}

/// Calls `take` for each value inside the listed values of `around`, or for all values if there is no facet
/// around.
fn inside(around: Option<&[(u32, u32)]>, pairs: &Pairs, mut take: impl FnMut(u32, u32, u64)) {
    let Some(around) = around else {
        pairs.iter().for_each(|(doc, value)| take(doc, 0, value));
        return;
    };
    // Both ascend by document, and both may have a document several times.
    let mut from = 0;
    for (doc, value) in pairs.iter() {
        while around.get(from).is_some_and(|(other, _)| *other < doc) {
            from += 1;
        }
        let same = around[from..].iter().take_while(|(other, _)| *other == doc);
        same.for_each(|(_, parent)| take(doc, *parent, value));
    }
}

/// Converts a column's number to the number that is counted.
enum Values {
    Same,
    Float,
    Intervals {
        interval: Interval,
        /// A day, in days since 1970, and the start of its interval.
        last: Option<(i64, u64)>,
    },
    Widths(Kind, f64),
}

impl Values {
    fn new(facet: &Facet) -> Self {
        match facet {
            Facet::DateHistogram(_, interval) => Self::Intervals {
                interval: *interval,
                last: None,
            },
            Facet::Histogram(field, width) => Self::Widths(field.kind(), *width),
            _ if facet.field().kind() == Kind::Float => Self::Float,
            _ => Self::Same,
        }
    }

    fn of(&mut self, number: u64) -> u64 {
        match self {
            Self::Same => number,
            // Both zeros are one value.
            Self::Float => f64_to_u64(u64_to_f64(number) + 0.0),
            Self::Intervals { interval, last } => {
                let ms = u64_to_i64(number);
                let floor = |ms| i64_to_u64(interval.floor(Timestamp::from_ms(ms)).ms());
                // Calendar computations are slow, and neighbouring documents are mostly from the same day.
                match interval {
                    Interval::Minute | Interval::Hour => floor(ms),
                    _ => {
                        let day = ms.div_euclid(DAY_MS);
                        match last {
                            Some((known, start)) if *known == day => *start,
                            last => last.insert((day, floor(ms))).1,
                        }
                    }
                }
            }
            Self::Widths(kind, width) => {
                let value = match kind {
                    Kind::Float => u64_to_f64(number),
                    _ => u64_to_i64(number) as f64,
                };
                f64_to_u64((value / *width).floor() * *width + 0.0)
            }
        }
    }
}

/// Numbers for texts, over all segments.
#[derive(Default)]
struct Interner {
    keys: HashMap<Box<str>, u64>,
    texts: Vec<Box<str>>,
    bytes: usize,
}

impl Interner {
    fn key(&mut self, text: &str) -> u64 {
        if let Some(key) = self.keys.get(text) {
            return *key;
        }
        let key = self.texts.len() as u64;
        self.keys.insert(text.into(), key);
        self.texts.push(text.into());
        self.bytes += 2 * text.len() + 100;
        key
    }
}

/// The order in which the values of a facet are listed.
struct Order<'i> {
    kind: Kind,
    /// Only for facets of texts.
    texts: Option<&'i Interner>,
    is_histogram: bool,
    size: usize,
}

impl Order<'_> {
    fn listed(
        &self,
        mut found: Vec<((u32, u64), u64)>,
        running: &Running,
    ) -> Result<Vec<Bucket>, IndexError> {
        running.check_time()?;
        let text = |key: u64| self.texts.map(|texts| &*texts.texts[key as usize]);
        let mut versions: HashMap<u64, Option<VersionKey>, KeyHash> = HashMap::default();
        if self.kind == Kind::Version {
            let keys = found.iter().map(|((_, key), _)| *key);
            versions.extend(keys.map(|key| (key, text(key).and_then(|t| version(self.kind, t)))));
        }
        let by_key = |a: u64, b: u64| {
            let order = versions.get(&a).cmp(&versions.get(&b));
            order.then_with(|| text(a).cmp(&text(b)).then(a.cmp(&b)))
        };
        let order = |a: &((u32, u64), u64), b: &((u32, u64), u64)| {
            if self.is_histogram {
                by_key(a.0.1, b.0.1)
            } else {
                b.1.cmp(&a.1).then_with(|| by_key(a.0.1, b.0.1))
            }
        };
        found.sort_unstable_by_key(|((parent, _), _)| *parent);
        let mut listed = Vec::new();
        for group in found.chunk_by_mut(|a, b| a.0.0 == b.0.0) {
            let mut group = group;
            if self.is_histogram {
                if group.len() > limits::FACETS_SIZE_MAX {
                    return Err(IndexError::TooComplex);
                }
            } else if group.len() > self.size {
                group.select_nth_unstable_by(self.size, order);
                group = &mut group[..self.size];
            }
            group.sort_unstable_by(order);
            listed.extend(group.iter().map(|&((parent, key), count)| Bucket {
                parent,
                key: text(key).map_or(Key::Number(key), |text| Key::Text(text.into())),
                count,
            }));
        }
        Ok(listed)
    }
}

/// The sort key of a text in a field of versions. Equal keys sort by the text.
pub fn version(kind: Kind, text: &str) -> Option<VersionKey> {
    (kind == Kind::Version).then(|| VersionKey::new(text))
}

impl Facet {
    fn is_histogram(&self) -> bool {
        matches!(self, Facet::DateHistogram(..) | Facet::Histogram(..))
    }
}
