//! Names of code objects that are compiled again and again.

#[path = "../../tests/fake/mod.rs"]
mod fake;

use std::collections::HashSet;

use fake::{Fake, Spec, ThreadSpec, all_builds, plain};
use onlooker_symbols::names::CodeTable;
use onlooker_unwinder::memory::{ReadMemory, RemoteAddr};

/// Where copies of a file name are put: far from the image.
const COPIES: u64 = 0x6000_0000_0000;
const STR_BYTES: usize = 96;

#[test]
fn code_that_is_compiled_again_is_nothing_new() {
    for build in all_builds() {
        let fake = Fake::new(&build, &Spec::threads(vec![ThreadSpec::new(plain(1))]));
        let layout = &build.layout;
        let version = layout.version;
        let mut sampler = fake.sampler();
        let memory = sampler.memory_mut();
        let code = fake.threads[0].frames[0].code;
        let field = RemoteAddr(code.0 + layout.code.filename);
        let mut filename = [0; STR_BYTES];
        let original = RemoteAddr(memory.read_u64(field).expect("a file name"));
        memory
            .read_exact(original, &mut filename)
            .expect("a string");
        let mut codes = CodeTable::new(1);
        let (mut ids, mut slots, mut names) = (HashSet::new(), HashSet::new(), HashSet::new());
        for n in 0..5000 {
            // The same text elsewhere: another code object at the same address.
            let copy = RemoteAddr(COPIES + n * 0x100);
            memory.inner_mut().insert(copy, &filename);
            memory.inner_mut().insert(field, &copy.0.to_le_bytes());
            codes.evict();
            codes.begin();
            codes.want(code);
            let refreshed = codes.refresh(memory, layout).expect("a code object");
            assert_eq!(refreshed.new, 1, "{version}");
            let slot = codes.slot(code).expect("it is known");
            ids.insert(codes.at(slot).id);
            slots.insert(slot);
            names.insert(codes.at(slot).filename.clone());
        }
        assert_eq!((ids.len(), names.len()), (1, 1), "{version}: {names:?}");
        assert!(slots.len() < 1100, "{version}: {} are kept", slots.len());
    }
}
