//! A journal whose newest segment is whatever the fuzzer makes of it: opening it
//! must not panic, loop or take memory, and what it serves must end.

#![no_main]

use std::{fs, sync::Arc};

use libfuzzer_sys::fuzz_target;
use lineman::{
    device::Uid,
    journal::{Age, Config, Root},
    telemetry::Metrics,
};

fuzz_target!(|input: (Vec<u8>, Vec<u8>, bool, bool)| {
    let (log, index, same_boot, with_gaps) = input;
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("a@0000000000000001");
    fs::create_dir(&journal).unwrap();
    fs::write(journal.join("00000000000000000000.log"), &log).unwrap();
    fs::write(journal.join("00000000000000000000.idx"), &index).unwrap();
    if with_gaps {
        fs::write(journal.join("00000000000000000000.gaps"), "").unwrap();
    }
    if same_boot {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        fs::write(dir.path().join("boot"), format!("{} running", boot.trim())).unwrap();
    }
    let config = Config { dir: dir.path().into(), framer: |_, out| out.extend_from_slice(b"x") };
    let root = Root::open(config, Arc::new(Metrics::new())).unwrap();
    let writer = root.journal(&"a".parse().unwrap(), Uid(1), 1 << 20, Age::Known);
    let next = writer.next_offset();
    assert!(next >= log.len() as u64, "no offset of the log is given out again");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut cursor = writer.journal().cursor(0);
        while let Some(_item) = cursor.try_next().await.unwrap() {}
        assert_eq!(cursor.offset(), next);
    });
    drop(writer);
    root.close();
});
