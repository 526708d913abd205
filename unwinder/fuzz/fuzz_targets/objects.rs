//! Any bytes as objects and code objects of any layout: no panic, an end, bounded answers.
//!
//! `cargo +nightly fuzz run objects` in `unwinder/`. The first byte chooses the layout; memory
//! begins at a fixed address, with an object at its start and one a little further.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onlooker_unwinder::code::CodeHeader;
use onlooker_unwinder::layout::{Attributes, Layout, tables};
use onlooker_unwinder::memory::{RecordedMemory, RemoteAddr};
use onlooker_unwinder::objects::resolve;

const BASE: u64 = 0x10_0000;
/// The word before an instance belongs to it.
const OBJECT: RemoteAddr = RemoteAddr(BASE + 64);

fn layout(choice: u8) -> Layout {
    let known: Vec<Layout> = tables::SUPPORTED
        .iter()
        .filter_map(|version| tables::for_version(*version))
        .collect();
    let mut layout = known[usize::from(choice) % known.len()].clone();
    if choice >= 128 {
        layout.objects.attributes = Attributes::Inline;
        layout.objects.dict_values = 8;
    }
    layout
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, image)) = input.split_first() else {
        return;
    };
    let layout = layout(*choice);
    let mut memory = RecordedMemory::new();
    memory.insert(RemoteAddr(BASE), image);
    if let Some(header) = CodeHeader::parse(&layout, RemoteAddr(BASE), image) {
        let _ = (
            header.position(BASE + 200, false),
            header.position(u64::MAX, true),
        );
    }
    let object = OBJECT;
    let memory = &mut memory;
    let text = resolve(memory, &layout, 1, |_, o| o.str(object)).expect("a process");
    if let Ok(text) = &text[0] {
        assert!(text.len() <= 4 << 16);
    }
    let bytes = resolve(memory, &layout, 1, |_, o| o.bytes(object)).expect("a process");
    if let Ok(bytes) = &bytes[0] {
        assert!(bytes.len() <= image.len());
    }
    let items = resolve(memory, &layout, 1, |_, o| o.dict_items(object)).expect("a process");
    if let Ok(items) = &items[0] {
        assert!(16 * items.len() <= image.len());
    }
    let _ = resolve(memory, &layout, 1, |_, o| o.unsigned(object));
    let _ = resolve(memory, &layout, 1, |_, o| o.attribute(object, "_name"));
    let _ = resolve(memory, &layout, 1, |_, o| {
        o.module_attribute(object, "_active")
    });
    let _ = resolve(memory, &layout, 1, |_, o| o.str_fingerprint(object));
});
