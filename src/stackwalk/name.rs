//! Names single addresses, for those who have a stack but no dump.

use breakpad_symbols::SimpleModule;
use minidump_unwind::FrameSymbolizer;

use super::answers;
use super::cache::{Lookup, SymbolCache, Unmapped};

/// A function that an address lies in, and where in its source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    pub function: String,
    /// Where the function begins, from the start of its module.
    pub function_start: u64,
    pub file: Option<String>,
    pub line: Option<u32>,
    /// Calls that were inlined there, from the innermost outwards.
    pub inlines: Vec<Inlined>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inlined {
    pub function: String,
    pub file: Option<String>,
    pub line: Option<u32>,
}

/// The symbols of one module. Names nothing where there are none.
pub struct ModuleNames(Lookup);

impl ModuleNames {
    pub fn of(cache: &SymbolCache, debug_file: &str, debug_id: &str) -> Self {
        Self(cache.find(debug_file, debug_id, Unmapped::Held))
    }

    /// Whether there are symbols that can be used.
    pub fn is_found(&self) -> bool {
        matches!(self.0, Lookup::Found(_))
    }

    /// The function at an offset from the module's start.
    pub fn at(&self, offset: u64) -> Option<Named> {
        let Lookup::Found(symbols) = &self.0 else {
            return None;
        };
        let module = SimpleModule {
            base_address: Some(0),
            ..SimpleModule::default()
        };
        let mut address = Address {
            offset,
            named: None,
        };
        answers::fill_symbol(symbols, &module, &mut address);
        address.named
    }
}

struct Address {
    offset: u64,
    named: Option<Named>,
}

impl FrameSymbolizer for Address {
    fn get_instruction(&self) -> u64 {
        self.offset
    }

    fn set_function(&mut self, name: &str, base: u64, _parameter_size: u32) {
        let named = self.named.get_or_insert_default();
        named.function = name.to_owned();
        named.function_start = base;
    }

    fn set_source_file(&mut self, file: &str, line: u32, _base: u64) {
        let named = self.named.get_or_insert_default();
        named.file = Some(file.to_owned());
        named.line = Some(line);
    }

    fn add_inline_frame(&mut self, name: &str, file: Option<&str>, line: Option<u32>) {
        let inlined = Inlined {
            function: name.to_owned(),
            file: file.map(str::to_owned),
            line,
        };
        // They come from the outermost inwards.
        self.named
            .get_or_insert_default()
            .inlines
            .insert(0, inlined);
    }
}
