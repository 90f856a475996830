//! Readable names of Swift functions: `$s6MyGame7TextureC6decodeyS2iF` is `Texture.decode(Int)`.
//!
//! symbolic-demangle reads these names with the C++ sources of the Swift compiler. Our builds have no C++ compiler
//! (musl), and the converter should not run a foreign parser in another language. This reads what is in the names
//! of functions, initialisers, accessors and closures of ordinary code. A name with anything else stays as it is.
//! Can go when symbolic-demangle has a reader in Rust.
//!
//! A name is a program for a stack: identifiers and types push nodes, operators combine the last ones. The
//! operators are those of "Mangling" in the documentation of Swift's ABI. Modules, results and generic
//! constraints are not shown.

/// Limit of bytes of a name that is read, and of a text that it may become.
const BYTES_MAX: usize = 4096;
/// Limit of nodes on the stack, and of nodes that later parts of the name may repeat.
const NODES_MAX: usize = 1024;
/// Limit of words that later identifiers may repeat. They are referred to by a letter.
const WORDS_MAX: usize = 26;

/// The readable form of a Swift name; `None` if it is not one, or if it says something that is not read here.
pub(crate) fn readable(symbol: &str) -> Option<String> {
    let name = symbol.strip_prefix('_').unwrap_or(symbol);
    let name = name
        .strip_prefix("$s")
        .or_else(|| name.strip_prefix("$S"))?;
    if name.len() > BYTES_MAX || !name.is_ascii() {
        return None;
    }
    let mut reader = Reader {
        rest: name.as_bytes(),
        stack: Vec::new(),
        known: Vec::new(),
        words: Vec::new(),
    };
    reader.read()
}

#[derive(Clone, Debug, PartialEq)]
enum Node {
    /// A name, or a module.
    Word(String),
    Type(Type),
    /// A function or a part of one.
    Entity(String),
    Empty,
    First,
    Variadic,
    /// Something that is not shown: `throws`, `async`, a generic signature.
    Mark,
}

#[derive(Clone, Debug, PartialEq)]
struct Type {
    text: String,
    /// The elements with their labels, if it is a tuple.
    elements: Option<Vec<String>>,
    /// The types of the parameters, if it is a function.
    parameters: Option<Vec<String>>,
}

fn plain(text: impl Into<String>) -> Type {
    Type {
        text: text.into(),
        elements: None,
        parameters: None,
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    stack: Vec<Node>,
    /// Nodes that later parts of the name may repeat.
    known: Vec<Node>,
    words: Vec<String>,
}

impl Reader<'_> {
    fn read(&mut self) -> Option<String> {
        while let Some(operator) = self.next() {
            // The signature of a specialised function follows to the end of the name.
            if operator == b'T' && self.rest.first() == Some(&b'f') {
                break;
            }
            self.step(operator)?;
            let is_large = |node: &Node| match node {
                Node::Word(text) | Node::Entity(text) => text.len() > BYTES_MAX,
                Node::Type(of) => of.text.len() > BYTES_MAX,
                _ => false,
            };
            if self.stack.len() > NODES_MAX
                || self.known.len() > NODES_MAX
                || self.stack.last().is_some_and(is_large)
            {
                return None;
            }
        }
        match self.stack.pop()? {
            Node::Entity(text) if self.stack.is_empty() => Some(text),
            _ => None,
        }
    }

    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    fn next_if(&mut self, byte: u8) -> bool {
        let is_next = self.rest.first() == Some(&byte);
        if is_next {
            self.rest = &self.rest[1..];
        }
        is_next
    }

    fn natural(&mut self) -> Option<usize> {
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit());
        let (number, rest) = self.rest.split_at(digits.count());
        self.rest = rest;
        std::str::from_utf8(number).ok()?.parse().ok()
    }

    /// `_` is 0, `0_` is 1.
    fn index(&mut self) -> Option<usize> {
        if self.next_if(b'_') {
            return Some(0);
        }
        let number = self.natural()?;
        self.next_if(b'_').then(|| number.checked_add(1))?
    }

    fn step(&mut self, operator: u8) -> Option<()> {
        let node = match operator {
            b'0'..=b'9' => self.identifier(operator)?,
            b'A' => return self.repeated(),
            b'S' => return self.standard(),
            b's' => Node::Word("Swift".to_owned()),
            b'y' => Node::Empty,
            b'_' => Node::First,
            b'd' => Node::Variadic,
            b'K' | b'l' => Node::Mark,
            b'Y' => match self.next()? {
                b'a' | b'b' | b'c' => Node::Mark,
                _ => return None,
            },
            b'C' | b'V' | b'O' | b'P' | b'a' => {
                let name = self.word()?;
                let node = Node::Type(plain(self.in_context(name)?));
                self.known.push(node.clone());
                node
            }
            b'E' => {
                self.marks();
                self.word()?;
                Node::Type(self.nominal()?)
            }
            b'L' => self.local()?,
            b'o' => self.operator()?,
            b't' => Node::Type(self.tuple()?),
            b'x' => Node::Type(plain("A")),
            b'q' => {
                let index = u8::try_from(self.index()?).ok()?;
                let letter = b'B'.checked_add(index).filter(u8::is_ascii_uppercase)?;
                Node::Type(plain(char::from(letter)))
            }
            b'z' => Node::Type(plain(format!("inout {}", self.nominal()?.text))),
            b'n' | b'h' => Node::Type(self.nominal()?),
            b'm' => Node::Type(plain(format!("{}.Type", self.nominal()?.text))),
            b'u' => {
                self.marks();
                Node::Type(self.nominal()?)
            }
            b'G' => {
                let node = Node::Type(plain(self.bound()?));
                self.known.push(node.clone());
                node
            }
            b'p' => Node::Type(plain(self.protocols()?)),
            b'c' => Node::Type(self.function_type()?),
            b'X' => match self.next()? {
                b'E' | b'B' | b'K' | b'f' | b'C' => Node::Type(self.function_type()?),
                _ => return None,
            },
            b'F' => {
                let parameters = self.parameters()?;
                let name = self.word()?;
                Node::Entity(self.in_context(format!("{name}({parameters})"))?)
            }
            b'f' => self.special_function()?,
            b'v' => {
                self.nominal()?;
                let name = self.word()?;
                let whole = self.in_context(name)?;
                self.accessor(whole)?
            }
            b'i' => {
                self.parameters_of_type()?;
                let whole = self.in_context("subscript".to_owned())?;
                self.accessor(whole)?
            }
            b'Z' => Node::Entity(format!("static {}", self.entity()?)),
            b'T' => return self.thunk(),
            _ => return None,
        };
        self.stack.push(node);
        Some(())
    }

    /// Text with its length before it. It may repeat words of earlier identifiers.
    fn identifier(&mut self, first: u8) -> Option<Node> {
        let mut repeats = false;
        if first == b'0' {
            // Names with other letters than ASCII are in punycode, which is not readable either.
            if self.rest.first() == Some(&b'0') {
                return None;
            }
            repeats = true;
        }
        let mut text = String::new();
        let mut digit = Some(first).filter(|_| !repeats);
        loop {
            while repeats && self.rest.first().is_some_and(u8::is_ascii_alphabetic) {
                let letter = self.next()?;
                repeats = letter.is_ascii_lowercase();
                let at = letter.to_ascii_lowercase() - b'a';
                text.push_str(self.words.get(usize::from(at))?);
            }
            if digit.is_none() && self.next_if(b'0') {
                break;
            }
            let length = match digit.take() {
                Some(first) => self.natural_after(first)?,
                None => self.natural()?,
            };
            if length == 0 || length > self.rest.len() || text.len() > BYTES_MAX {
                return None;
            }
            let (part, rest) = self.rest.split_at(length);
            self.rest = rest;
            let part = std::str::from_utf8(part).ok()?;
            text.push_str(part);
            self.keep_words(part);
            if !repeats {
                break;
            }
        }
        let node = Node::Word(text);
        self.known.push(node.clone());
        Some(node)
    }

    fn natural_after(&mut self, first: u8) -> Option<usize> {
        let first = usize::from(first - b'0');
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit());
        match digits.count() {
            0 => Some(first),
            count => {
                let more = self.natural()?;
                let scale = 10usize.checked_pow(u32::try_from(count).ok()?)?;
                first.checked_mul(scale)?.checked_add(more)
            }
        }
    }

    /// Keeps the words of an identifier: `renderScene` has two.
    fn keep_words(&mut self, text: &str) {
        let bytes = text.as_bytes();
        let mut start = None;
        for at in 0..=bytes.len() {
            let byte = bytes.get(at).copied().unwrap_or(0);
            if let Some(from) = start {
                let before = bytes[at - 1];
                let is_end = matches!(byte, b'_' | 0)
                    || (!before.is_ascii_uppercase() && byte.is_ascii_uppercase());
                if is_end {
                    if at - from >= 2 && self.words.len() < WORDS_MAX {
                        self.words.push(text[from..at].to_owned());
                    }
                    start = None;
                }
            }
            if start.is_none() && byte != 0 && byte != b'_' && !byte.is_ascii_digit() {
                start = Some(at);
            }
        }
    }

    /// Nodes that were there before.
    fn repeated(&mut self) -> Option<()> {
        let mut count = 1;
        loop {
            let byte = self.next()?;
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' => {
                    let at = usize::from(byte.to_ascii_lowercase() - b'a');
                    let node = self.known.get(at)?.clone();
                    if count > NODES_MAX {
                        return None;
                    }
                    self.stack.extend(std::iter::repeat_n(node, count));
                    if byte.is_ascii_uppercase() {
                        return Some(());
                    }
                    count = 1;
                }
                b'_' => {
                    let node = self.known.get(26)?.clone();
                    self.stack.push(node);
                    return Some(());
                }
                b'0'..=b'9' => {
                    count = self.natural_after(byte)?;
                    if self.next_if(b'_') {
                        let node = self.known.get(count.checked_add(27)?)?.clone();
                        self.stack.push(node);
                        return Some(());
                    }
                }
                _ => return None,
            }
        }
    }

    /// Types of the standard library that have a letter.
    fn standard(&mut self) -> Option<()> {
        if self.next_if(b'g') {
            let node = Node::Type(plain(format!("{}?", self.nominal()?.text)));
            self.known.push(node.clone());
            self.stack.push(node);
            return Some(());
        }
        let count = if self.rest.first()?.is_ascii_digit() {
            self.natural()?
        } else {
            1
        };
        let node = match self.next()? {
            b'o' | b'C' => Node::Word("C".to_owned()),
            letter => Node::Type(plain(standard_type(letter)?)),
        };
        if count > NODES_MAX {
            return None;
        }
        self.stack.extend(std::iter::repeat_n(node, count));
        Some(())
    }

    fn marks(&mut self) {
        while self.stack.last() == Some(&Node::Mark) {
            self.stack.pop();
        }
    }

    fn pop_if(&mut self, node: &Node) -> bool {
        let is_last = self.stack.last() == Some(node);
        if is_last {
            self.stack.pop();
        }
        is_last
    }

    fn word(&mut self) -> Option<String> {
        match self.stack.pop()? {
            Node::Word(word) => Some(word),
            _ => None,
        }
    }

    fn nominal(&mut self) -> Option<Type> {
        match self.stack.pop()? {
            Node::Type(of) => Some(of),
            _ => None,
        }
    }

    fn entity(&mut self) -> Option<String> {
        match self.stack.pop()? {
            Node::Entity(text) => Some(text),
            _ => None,
        }
    }

    /// A name with the context that is on the stack before it. Modules are not shown.
    fn in_context(&mut self, name: String) -> Option<String> {
        self.marks();
        Some(match self.stack.pop()? {
            Node::Word(_) => name,
            Node::Type(of) => format!("{}.{name}", of.text),
            Node::Entity(text) => format!("{name} in {text}"),
            _ => return None,
        })
    }

    /// A name that is only known within a file or a function.
    fn local(&mut self) -> Option<Node> {
        if self.next_if(b'L') {
            self.word()?;
        } else {
            self.index()?;
        }
        Some(Node::Word(self.word()?))
    }

    fn operator(&mut self) -> Option<Node> {
        const SIGNS: &[u8; 26] = b"& @/= >    <*!|+?%-~   ^ .";
        if !matches!(self.next()?, b'i' | b'p' | b'P') {
            return None;
        }
        let word = self.word()?;
        let signs = word.bytes().map(|letter| {
            let at = letter.checked_sub(b'a')?;
            let sign = *SIGNS.get(usize::from(at))?;
            (sign != b' ').then(|| char::from(sign))
        });
        Some(Node::Word(signs.collect::<Option<String>>()?))
    }

    fn tuple(&mut self) -> Option<Type> {
        let mut elements = Vec::new();
        if !self.pop_if(&Node::Empty) {
            loop {
                let is_first = self.pop_if(&Node::First);
                let dots = if self.pop_if(&Node::Variadic) {
                    "..."
                } else {
                    ""
                };
                let label = match self.stack.last()? {
                    Node::Word(_) => format!("{}: ", self.word()?),
                    _ => String::new(),
                };
                elements.push(format!("{label}{}{dots}", self.nominal()?.text));
                if is_first {
                    break;
                }
            }
        }
        elements.reverse();
        Some(Type {
            elements: Some(elements.clone()),
            ..plain(format!("({})", elements.join(", ")))
        })
    }

    /// A generic type with its arguments.
    fn bound(&mut self) -> Option<String> {
        let mut lists = Vec::new();
        loop {
            let mut list = Vec::new();
            while let Some(Node::Type(_)) = self.stack.last() {
                list.push(self.nominal()?.text);
            }
            list.reverse();
            lists.push(list);
            if self.pop_if(&Node::Empty) {
                break;
            }
            if !self.pop_if(&Node::First) {
                return None;
            }
        }
        lists.reverse();
        let of = self.nominal()?.text;
        let arguments = lists.concat();
        Some(match (of.as_str(), &arguments[..]) {
            (_, []) => of,
            ("Array", [element]) => format!("[{element}]"),
            ("Dictionary", [key, value]) => format!("[{key}: {value}]"),
            ("Optional", [wrapped]) => format!("{wrapped}?"),
            _ => format!("{of}<{}>", arguments.join(", ")),
        })
    }

    fn protocols(&mut self) -> Option<String> {
        let mut names = Vec::new();
        if !self.pop_if(&Node::Empty) {
            loop {
                let is_first = self.pop_if(&Node::First);
                let name = match self.stack.pop()? {
                    Node::Type(of) => of.text,
                    // The protocol itself, without the operator that would make it a type.
                    Node::Word(name) => self.in_context(name)?,
                    _ => return None,
                };
                names.push(name);
                if is_first {
                    break;
                }
            }
        }
        names.reverse();
        Some(if names.is_empty() {
            "Any".to_owned()
        } else {
            names.join(" & ")
        })
    }

    /// The parameters and the result of a function. The result is the first of them on the stack.
    fn signature(&mut self) -> Option<(Type, Type)> {
        self.marks();
        let mut part = || match self.stack.pop()? {
            Node::Empty => Some(Type {
                elements: Some(Vec::new()),
                ..plain("()")
            }),
            Node::Type(of) => Some(of),
            _ => None,
        };
        let parameters = part()?;
        Some((parameters, part()?))
    }

    fn function_type(&mut self) -> Option<Type> {
        let (parameters, result) = self.signature()?;
        let types = parameters.elements.unwrap_or(vec![parameters.text]);
        Some(Type {
            parameters: Some(types.clone()),
            ..plain(format!("({}) -> {}", types.join(", "), result.text))
        })
    }

    /// The parameters of a function, with their labels.
    fn parameters(&mut self) -> Option<String> {
        let (parameters, _) = self.signature()?;
        let types = parameters.elements.unwrap_or(vec![parameters.text]);
        self.labelled(&types)
    }

    /// The same for an entity whose type is one node.
    fn parameters_of_type(&mut self) -> Option<String> {
        self.marks();
        let types = self.nominal()?.parameters?;
        self.labelled(&types)
    }

    fn labelled(&mut self, types: &[String]) -> Option<String> {
        if self.pop_if(&Node::Empty) || types.is_empty() {
            return Some(types.join(", "));
        }
        let mut shown = Vec::new();
        for of in types.iter().rev() {
            shown.push(match self.stack.pop()? {
                Node::First => of.clone(),
                Node::Word(label) => format!("{label}: {of}"),
                _ => return None,
            });
        }
        shown.reverse();
        Some(shown.join(", "))
    }

    /// Initialisers, deinitialisers, closures and default values.
    fn special_function(&mut self) -> Option<Node> {
        Some(Node::Entity(match self.next()? {
            b'C' | b'c' => {
                let parameters = self.parameters_of_type()?;
                self.in_context(format!("init({parameters})"))?
            }
            b'D' | b'd' => self.in_context("deinit".to_owned())?,
            b'U' | b'u' => {
                let number = self.index()?.checked_add(1)?;
                self.nominal()?;
                format!("closure #{number} in {}", self.entity()?)
            }
            b'A' => {
                self.index()?;
                format!("default argument of {}", self.entity()?)
            }
            _ => return None,
        }))
    }

    fn accessor(&mut self, of: String) -> Option<Node> {
        let kind = match self.next()? {
            b'p' => return Some(Node::Entity(of)),
            b'g' | b'G' => "getter",
            b's' => "setter",
            b'w' => "willset",
            b'W' => "didset",
            b'm' | b'M' | b'x' => "modify",
            b'r' | b'y' => "read",
            b'a' | b'l' | b'u' => "addressor",
            _ => return None,
        };
        Some(Node::Entity(format!("{of}.{kind}")))
    }

    /// Functions that the compiler makes of another one are shown as that one.
    fn thunk(&mut self) -> Option<()> {
        match self.next()? {
            b'o' | b'O' | b'm' | b'j' | b'u' | b'D' | b'E' => {}
            b'Q' | b'Y' => {
                self.index()?;
            }
            // The types of a specialisation, and the number of the pass that made it.
            b'g' | b'G' => {
                while self.rest.first().is_some_and(u8::is_ascii_alphanumeric)
                    && !self.rest.is_empty()
                {
                    self.next();
                }
                while !matches!(self.stack.last(), Some(Node::Entity(_)) | None) {
                    self.stack.pop();
                }
            }
            _ => return None,
        }
        matches!(self.stack.last(), Some(Node::Entity(_))).then_some(())
    }
}

fn standard_type(letter: u8) -> Option<&'static str> {
    Some(match letter {
        b'A' => "AutoreleasingUnsafeMutablePointer",
        b'a' => "Array",
        b'b' => "Bool",
        b'D' => "Dictionary",
        b'd' => "Double",
        b'f' => "Float",
        b'h' => "Set",
        b'I' => "DefaultIndices",
        b'i' => "Int",
        b'J' => "Character",
        b'N' => "ClosedRange",
        b'n' => "Range",
        b'O' => "ObjectIdentifier",
        b'P' => "UnsafePointer",
        b'p' => "UnsafeMutablePointer",
        b'q' => "Optional",
        b'R' => "UnsafeBufferPointer",
        b'r' => "UnsafeMutableBufferPointer",
        b'S' => "String",
        b's' => "Substring",
        b'u' => "UInt",
        b'V' => "UnsafeRawPointer",
        b'v' => "UnsafeMutableRawPointer",
        b'W' => "UnsafeRawBufferPointer",
        b'w' => "UnsafeMutableRawBufferPointer",
        b'B' => "BinaryFloatingPoint",
        b'E' => "Encodable",
        b'e' => "Decodable",
        b'F' => "FloatingPoint",
        b'G' => "RandomNumberGenerator",
        b'H' => "Hashable",
        b'j' => "Numeric",
        b'K' => "BidirectionalCollection",
        b'k' => "RandomAccessCollection",
        b'L' => "Comparable",
        b'l' => "Collection",
        b'M' => "MutableCollection",
        b'm' => "RangeReplaceableCollection",
        b'Q' => "Equatable",
        b'T' => "Sequence",
        b't' => "IteratorProtocol",
        b'U' => "UnsignedInteger",
        b'X' => "RangeExpression",
        b'x' => "Strideable",
        b'Y' => "RawRepresentable",
        b'y' => "StringProtocol",
        b'Z' => "SignedInteger",
        b'z' => "BinaryInteger",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_of_ordinary_code_are_readable() {
        for (symbol, name) in [
            ("$s6MyGame7TextureC6decodeyS2iF", "Texture.decode(Int)"),
            ("_$s6MyGame8RendererC6renderyS2iF", "Renderer.render(Int)"),
            ("$s4main3fooyyF", "foo()"),
            ("$s4main3foo1xySi_tF", "foo(x: Int)"),
            ("$s4main3foo_1ySiSS_SdtF", "foo(String, y: Double)"),
            ("$s4main3FooV5valueSivg", "Foo.value.getter"),
            ("$s4main3FooV5valueSivs", "Foo.value.setter"),
            ("$s4main3FooCACycfC", "Foo.init()"),
            ("$s4main3FooC4nameACSS_tcfc", "Foo.init(name: String)"),
            ("$s4main3FooCfD", "Foo.deinit"),
            ("$s4main3FooC3BarV3runyyKF", "Foo.Bar.run()"),
            ("$s4main3FooC4makeACyFZ", "static Foo.make()"),
            ("$s4main3fooyyxlF", "foo(A)"),
            ("$s4main3fooyySaySiGF", "foo([Int])"),
            ("$s4main3fooyySDySSSiGF", "foo([String: Int])"),
            ("$s4main3fooyySiSgF", "foo(Int?)"),
            ("$s4main3fooyyyyXEF", "foo(() -> ())"),
            ("$s4main3fooyyFyyXEfU_", "closure #1 in foo()"),
            ("$s4main3fooyyYaFTY0_", "foo()"),
            ("$s4main3fooyyxlFSi_Tg5", "foo(A)"),
            ("$s4main3fooyyFTf4n_n", "foo()"),
            ("$s4main3FooC3baryyFTo", "Foo.bar()"),
            ("$s4main3FooCyS2icig", "Foo.subscript.getter"),
            ("$sSS4mainE5shoutSSyF", "String.shout()"),
            ("$s4main1poiyS2i_SitF", "+(Int, Int)"),
        ] {
            assert_eq!(readable(symbol).as_deref(), Some(name), "{symbol}");
        }
    }

    #[test]
    fn what_is_not_read_stays_as_it_is() {
        for symbol in [
            "",
            "$s",
            "main",
            "_main",
            "$s4main",
            "$s4main3FooCMa",
            "$s4main3FooVMn",
            "$s99main",
            "$sA_",
            "$sAZ",
            "$s4main3fooyyF4",
            "$sS99999999999999999999i",
            "$s00",
            "$s0",
            "$s\u{e9}",
            "$st",
            "$sG",
        ] {
            assert_eq!(readable(symbol), None, "{symbol}");
        }
    }

    #[test]
    fn a_name_that_doubles_itself_is_not_read() {
        // Each tuple has the one before it twice.
        let doubling = format!("$s4main3fooyy{}F", "Si_SitAaA_AAt".repeat(300));
        assert_eq!(readable(&doubling), None);
        assert_eq!(readable(&format!("$s{}", "A".repeat(4000))), None);
        assert_eq!(readable(&format!("$s4main{}", "S1000i".repeat(500))), None);
        let mut state = 5u64;
        const LETTERS: &[u8] = b"4main3FooVCSsiyAaB_tFfUKlGXEZvgsTo0q2z";
        for _ in 0..100_000 {
            let mut name = "$s4main3Foo".to_owned();
            for _ in 0..20 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                name.push(char::from(LETTERS[(state >> 33) as usize % LETTERS.len()]));
            }
            readable(&name);
        }
    }
}
