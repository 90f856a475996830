//! Hostile dumps, built from a description. They have few bytes in the file, but cost a reader that trusts
//! them gigabytes or hours.

/// A dump of an x86-64 Linux process, built from its lists.
#[derive(Default)]
pub struct Dump {
    bytes: Vec<u8>,
    /// Type, size and offset of each stream.
    streams: Vec<(u32, u32, u32)>,
}

const HEADER_BYTES: usize = 32;
const DIRECTORY_BYTES: usize = 12 * 16;
const MODULE_BASE: u64 = 0x40_0000;
const MODULE_SIZE: u32 = 0x10_0000;
const STACK_BASE: u64 = 0x7fff_0000_0000;

impl Dump {
    fn new() -> Self {
        let mut dump = Self {
            bytes: vec![0; HEADER_BYTES + DIRECTORY_BYTES],
            streams: Vec::new(),
        };
        let mut system = [0; 56];
        system[..2].copy_from_slice(&9_u16.to_le_bytes());
        system[6] = 4;
        system[20..24].copy_from_slice(&0x8201_u32.to_le_bytes());
        dump.stream(7, &system);
        dump
    }

    /// Appends bytes to the file and returns their offset.
    fn put(&mut self, bytes: &[u8]) -> u32 {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        let at = self.bytes.len() as u32;
        self.bytes.extend_from_slice(bytes);
        at
    }

    fn stream(&mut self, kind: u32, bytes: &[u8]) {
        let at = self.put(bytes);
        self.streams.push((kind, bytes.len() as u32, at));
    }

    fn text(&mut self, characters: usize) -> u32 {
        let mut text = (characters as u32 * 2).to_le_bytes().to_vec();
        text.extend(b"x\0".repeat(characters));
        text.extend([0, 0]);
        self.put(&text)
    }

    /// The registers of a thread with this instruction pointer.
    fn context(&mut self, rip: u64, rbp: u64) -> u32 {
        let mut context = [0; 1232];
        context[48..52].copy_from_slice(&0x10_000b_u32.to_le_bytes());
        context[152..160].copy_from_slice(&STACK_BASE.to_le_bytes());
        context[160..168].copy_from_slice(&rbp.to_le_bytes());
        context[248..256].copy_from_slice(&rip.to_le_bytes());
        self.put(&context)
    }

    /// `count` modules with the same name, one after the other.
    fn modules(&mut self, count: u32, name: u32) {
        let mut list = count.to_le_bytes().to_vec();
        for index in 0..count {
            let mut module = [0; 108];
            let base = MODULE_BASE + u64::from(index) * u64::from(MODULE_SIZE);
            module[..8].copy_from_slice(&base.to_le_bytes());
            module[8..12].copy_from_slice(&MODULE_SIZE.to_le_bytes());
            module[20..24].copy_from_slice(&name.to_le_bytes());
            list.extend(module);
        }
        self.stream(4, &list);
    }

    /// `count` threads with the same registers and the same stack.
    fn threads(&mut self, count: u32, context: u32, stack: &[u8]) {
        let at = self.put(stack);
        let mut list = count.to_le_bytes().to_vec();
        for id in 1..=count {
            let mut thread = [0; 48];
            thread[..4].copy_from_slice(&id.to_le_bytes());
            thread[24..32].copy_from_slice(&STACK_BASE.to_le_bytes());
            thread[32..36].copy_from_slice(&(stack.len() as u32).to_le_bytes());
            thread[36..40].copy_from_slice(&at.to_le_bytes());
            thread[40..44].copy_from_slice(&1232_u32.to_le_bytes());
            thread[44..48].copy_from_slice(&context.to_le_bytes());
            list.extend(thread);
        }
        self.stream(3, &list);
        let mut exception = [0; 168];
        exception[..4].copy_from_slice(&1_u32.to_le_bytes());
        exception[8..12].copy_from_slice(&11_u32.to_le_bytes());
        exception[160..164].copy_from_slice(&1232_u32.to_le_bytes());
        exception[164..168].copy_from_slice(&context.to_le_bytes());
        self.stream(6, &exception);
    }

    fn finish(mut self) -> Vec<u8> {
        self.bytes[..4].copy_from_slice(b"MDMP");
        self.bytes[4..8].copy_from_slice(&0xa793_u32.to_le_bytes());
        self.bytes[8..12].copy_from_slice(&(self.streams.len() as u32).to_le_bytes());
        self.bytes[12..16].copy_from_slice(&(HEADER_BYTES as u32).to_le_bytes());
        for (index, (kind, size, at)) in self.streams.into_iter().enumerate() {
            let entry = HEADER_BYTES + index * 12;
            for (word, value) in [kind, size, at].into_iter().enumerate() {
                let place = entry + word * 4;
                self.bytes[place..place + 4].copy_from_slice(&value.to_le_bytes());
            }
        }
        self.bytes
    }
}

/// Stack memory in which every word looks like a return address.
fn return_addresses(bytes: usize) -> Vec<u8> {
    (MODULE_BASE + 0x1000).to_le_bytes().repeat(bytes / 8)
}

/// A chain of frame pointers, each pointing to the next. The return addresses are in no module.
fn frame_pointers(bytes: usize) -> Vec<u8> {
    (0..bytes as u64 / 16)
        .flat_map(|frame| [STACK_BASE + (frame + 1) * 16, 0x1234_5678])
        .flat_map(u64::to_le_bytes)
        .collect()
}

fn with_stack(threads: u32, stack: &[u8], rip: u64) -> Vec<u8> {
    let mut dump = Dump::new();
    let context = dump.context(rip, STACK_BASE);
    let name = dump.text(8);
    dump.modules(1, name);
    dump.threads(threads, context, stack);
    dump.finish()
}

fn with_names(modules: u32, characters: usize) -> Vec<u8> {
    let mut dump = Dump::new();
    let context = dump.context(MODULE_BASE + 0x1000, 0);
    let name = dump.text(characters);
    dump.modules(modules, name);
    dump.threads(1, context, &return_addresses(4096));
    dump.finish()
}

/// A handle whose object information points to itself as the next one.
fn with_an_endless_handle() -> Vec<u8> {
    let mut dump = Dump::new();
    let context = dump.context(MODULE_BASE + 0x1000, 0);
    let name = dump.text(8);
    dump.modules(1, name);
    dump.threads(1, context, &return_addresses(4096));
    // One object information: offset of the next one, type, length.
    let at = dump.bytes.len().next_multiple_of(8) as u32;
    dump.put(&[at.to_le_bytes(), 1_u32.to_le_bytes(), 0_u32.to_le_bytes()].concat());
    let mut handles = [16_u32, 40, 1, 0].map(u32::to_le_bytes).concat();
    let mut handle = [0; 40];
    handle[..8].copy_from_slice(&0x44_u64.to_le_bytes());
    handle[32..36].copy_from_slice(&at.to_le_bytes());
    handles.extend(handle);
    dump.stream(12, &handles);
    dump.finish()
}

/// Four billion handles of 0 bytes each.
fn with_handles_of_no_size() -> Vec<u8> {
    let mut dump = Dump::new();
    let context = dump.context(MODULE_BASE + 0x1000, 0);
    let name = dump.text(8);
    dump.modules(1, name);
    dump.threads(1, context, &return_addresses(4096));
    let handles = [16_u32, 0, u32::MAX, 0].map(u32::to_le_bytes).concat();
    dump.stream(12, &handles);
    dump.finish()
}

/// The maximum number of thread names, unloaded modules and streams, all with the same long text.
fn with_long_lists() -> Vec<u8> {
    let mut dump = Dump::new();
    let context = dump.context(0x10, 0);
    let name = dump.text(16_000);
    dump.modules(3_000, name);
    dump.threads(3_000, context, &return_addresses(4096));
    let mut names = 50_000_u32.to_le_bytes().to_vec();
    for id in 0..50_000_u32 {
        names.extend(id.to_le_bytes());
        names.extend(u64::from(name).to_le_bytes());
    }
    dump.stream(24, &names);
    let mut unloaded = [12_u32, 24, 50_000].map(u32::to_le_bytes).concat();
    for _ in 0..50_000 {
        let mut module = [0; 24];
        module[8..12].copy_from_slice(&0x1000_u32.to_le_bytes());
        module[20..24].copy_from_slice(&name.to_le_bytes());
        unloaded.extend(module);
    }
    dump.stream(14, &unloaded);
    dump.finish()
}

/// All kinds, each with its name.
pub fn dumps() -> Vec<(&'static str, Vec<u8>)> {
    let in_module = MODULE_BASE + 0x1000;
    vec![
        (
            "return_addresses_8mb",
            with_stack(1, &return_addresses(8 << 20), in_module),
        ),
        (
            "return_addresses_1mb",
            with_stack(1, &return_addresses(1 << 20), in_module),
        ),
        (
            "return_addresses_256kb",
            with_stack(1, &return_addresses(256 << 10), in_module),
        ),
        (
            "frame_pointers_8mb",
            with_stack(1, &frame_pointers(8 << 20), 0x1234_5678),
        ),
        ("names_1mb", with_names(2_000, 512 << 10)),
        ("names_32kb", with_names(8_000, 16 << 10)),
        (
            "threads_200",
            with_stack(200, &return_addresses(8 << 10), in_module),
        ),
        (
            "threads_20000",
            with_stack(20_000, &return_addresses(8 << 10), in_module),
        ),
        ("endless_handle", with_an_endless_handle()),
        ("handles_of_no_size", with_handles_of_no_size()),
        ("long_lists", with_long_lists()),
    ]
}
