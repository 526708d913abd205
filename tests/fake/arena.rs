//! The memory that an image is laid out in.

use onlooker_unwinder::memory::{RecordedMemory, RemoteAddr};
use onlooker_unwinder::sampler::readahead::Mappings;

pub(crate) const PAGE: u64 = 4096;
/// Where an image without a process begins: where mappings of x86-64 usually lie.
pub(crate) const BASE: u64 = 0x7f00_0000_0000;
/// A plausible pointer that no process has mapped: below `vm.mmap_min_addr`.
pub(crate) const UNMAPPED: RemoteAddr = RemoteAddr(0x8000);

/// Memory from one base address on, handed out upwards. What lies between two mappings is
/// not readable where the image is recorded memory, and reads as zeros in a process.
#[derive(Clone, Debug)]
pub(crate) struct Arena {
    base: u64,
    bytes: Vec<u8>,
    mapped: Vec<(u64, u64)>,
}

impl Arena {
    pub(crate) fn new(base: u64) -> Self {
        assert!(base.is_multiple_of(PAGE), "{base:#x}");
        Self {
            base,
            bytes: Vec::new(),
            mapped: vec![(base, base)],
        }
    }

    /// Ends the current mapping. The next one begins a page further on.
    pub(crate) fn new_mapping(&mut self) {
        let end = self.end().next_multiple_of(PAGE);
        self.grow(end);
        let last = self.mapped.last_mut().expect("the first mapping");
        last.1 = end;
        if last.0 < last.1 {
            self.grow(end + PAGE);
            self.mapped.push((end + PAGE, end + PAGE));
        }
    }

    /// Zeroed memory in the current mapping.
    pub(crate) fn alloc(&mut self, len: u64, align: u64) -> RemoteAddr {
        let addr = self.end().next_multiple_of(align);
        self.grow(addr + len);
        self.mapped.last_mut().expect("the first mapping").1 = addr + len;
        RemoteAddr(addr)
    }

    fn end(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    fn grow(&mut self, end: u64) {
        self.bytes.resize((end - self.base) as usize, 0);
    }

    fn at(&mut self, addr: RemoteAddr, len: usize) -> &mut [u8] {
        let offset = addr.offset_from(RemoteAddr(self.base)).expect("in here") as usize;
        &mut self.bytes[offset..offset + len]
    }

    pub(crate) fn put(&mut self, addr: RemoteAddr, bytes: &[u8]) {
        self.at(addr, bytes.len()).copy_from_slice(bytes);
    }

    pub(crate) fn put_u64(&mut self, addr: RemoteAddr, value: u64) {
        self.put(addr, &value.to_le_bytes());
    }

    pub(crate) fn put_u32(&mut self, addr: RemoteAddr, value: u32) {
        self.put(addr, &value.to_le_bytes());
    }

    pub(crate) fn put_u8(&mut self, addr: RemoteAddr, value: u8) {
        self.put(addr, &[value]);
    }

    pub(crate) fn get_u64(&mut self, addr: RemoteAddr) -> u64 {
        let bytes = self.at(addr, 8);
        u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
    }

    /// Everything from the base on, gaps included.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The mappings, whole pages.
    pub(crate) fn ranges(&self) -> Vec<(u64, u64)> {
        self.mapped
            .iter()
            .map(|(start, end)| (*start, end.next_multiple_of(PAGE)))
            .filter(|(start, end)| start < end)
            .collect()
    }

    pub(crate) fn mappings(&self) -> Mappings {
        Mappings::new(self.ranges())
    }

    pub(crate) fn recorded(&self) -> RecordedMemory {
        let mut memory = RecordedMemory::new();
        for (start, end) in self.ranges() {
            let from = (start - self.base) as usize;
            let to = ((end - self.base) as usize).min(self.bytes.len());
            let mut piece = self.bytes[from..to].to_vec();
            piece.resize((end - start) as usize, 0);
            memory.insert(RemoteAddr(start), &piece);
        }
        memory
    }
}
