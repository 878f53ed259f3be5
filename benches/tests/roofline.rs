//! What the roofline report rests on: which roof binds, that the tables of shapes are whole, and that records are read.

use std::path::Path;

use depthwise::{Cost, Isa, Layout};
use depthwise_testkit::shapes;

use depthwise_benches::record;
use depthwise_benches::roof::{Level, Roofs, Work};

fn roofs() -> Roofs {
    let level = |name, capacity, bandwidth| Level { name, capacity, read_by_thread: 0, bandwidth };
    let levels = vec![level("L1", 1e3, 400.0), level("L2", 1e5, 200.0), level("memory", f64::INFINITY, 25.0)];
    Roofs { threads: 1, peaks: vec![(Isa::Portable, 50.0), (Isa::Avx2, 100.0)], levels, hand_over: None }
}

/// The roof over so many bytes with two multiply-adds for every `n` of them.
fn bound(isa: Isa, bytes: u64, n: u64) -> (&'static str, f64) {
    let work = Work::new(Cost { parameters: 0, multiply_adds: 2 * bytes / n, bytes }, None);
    let bound = roofs().bound(isa, &work);
    (bound.name, bound.gflops)
}

#[test]
fn the_lower_roof_binds() {
    // 4 / 20 = 0.2 floating-point operations a byte.
    assert_eq!(bound(Isa::Avx2, 1000, 20), ("L1", 80.0));
    assert_eq!(bound(Isa::Avx2, 1020, 20), ("L2", 40.0));
    assert_eq!(bound(Isa::Avx2, 1_000_000, 20), ("memory", 5.0));
    // 4: the peak, but for memory where the two meet.
    assert_eq!(bound(Isa::Avx2, 1000, 1), ("peak", 100.0));
    assert_eq!(bound(Isa::Avx2, 1_000_000, 1), ("peak", 100.0));
    assert_eq!(bound(Isa::Portable, 1_000_000, 1), ("peak", 50.0));
    assert_eq!(bound(Isa::Avx2, 1_000_000, 2), ("memory", 50.0));
}

#[test]
fn two_passes_write_and_read_what_lies_between() {
    let cost = Cost { parameters: 0, multiply_adds: 60, bytes: 100 };
    let [fused, two_pass] = [None, Some(10)].map(|between| Work::new(cost, between));
    assert_eq!((fused.bytes, fused.footprint, fused.intensity()), (100.0, 100.0, 1.2));
    assert_eq!((two_pass.bytes, two_pass.footprint, two_pass.intensity()), (120.0, 110.0, 1.0));
}

#[test]
fn read_sums_every_element_that_many_times() {
    for &isa in Isa::all().iter().filter(|isa| isa.is_available()) {
        for len in 0..500 {
            // Whole numbers, whose sums are exact in any order.
            let data: Vec<f32> = (1..=len).map(|x| x as f32).collect();
            for times in [0, 1, 3] {
                let sum = (times * len * (len + 1) / 2) as f32;
                assert_eq!(isa.read(&data, times), Ok(sum), "{isa} {len} {times}");
            }
        }
    }
}

#[test]
fn the_tables_hold_whole_networks_and_every_layer_is_one() {
    for (name, layers) in shapes::TABLES.into_iter().zip([15, 16, 34, 321, 565, 262]) {
        let blocks = shapes::load(&shapes::table(name)).expect(name);
        assert_eq!(blocks.iter().map(|block| block.count).sum::<usize>(), layers, "{name}");
        let mut names: Vec<&str> = blocks.iter().map(|block| &*block.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), blocks.len(), "{name}: two have one name");
        for block in &blocks {
            shapes::build(block, shapes::Part::Depthwise, Layout::Nhwc, Isa::Portable, None).expect(name);
        }
    }
}

#[test]
fn every_record_says_of_what_it_is_and_every_roofline_is_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("record");
    let files = |folder: &Path| std::fs::read_dir(folder).expect("a folder").map(|file| file.expect("a file").path());
    let files = files(&folder).filter(|path| path.is_dir()).flat_map(|cpu| files(&cpu).collect::<Vec<_>>());
    let mut rooflines = 0;
    for path in files.filter(|path| path.extension().is_some_and(|extension| extension == "csv")) {
        let (name, text) = (path.display(), std::fs::read_to_string(&path).expect("a record"));
        let head: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("# ")).collect();
        let date = head.iter().find_map(|line| line.strip_prefix("date: ")).expect("a date");
        let file = path.file_name().and_then(|file| file.to_str()).expect("a name");
        let kinds = ["peers", "roofline", "tiles"];
        let kind = kinds.into_iter().find(|kind| file == format!("{date}-{kind}.csv")).expect("a kind of records");
        let keys: &[&str] = match kind {
            // Of simulated cores.
            "tiles" => &["llvm-mca: ", "compiler: ", "commit: "],
            _ => &["cpu: ", "cpus: ", "compiler: ", "commit: ", "version depthwise: "],
        };
        for &key in keys {
            assert!(head.iter().any(|line| line.starts_with(key)), "{name} does not say its {key}");
        }
        if kind == "roofline" {
            rooflines += 1;
            let report = record::read(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            let again = record::write(&report).expect("text");
            assert_eq!(again.lines().filter(|line| !line.starts_with('#')).count(), report.rows.len() + 1, "{name}");
            let again = record::read(&again).expect("what has just been written");
            assert_eq!(again.markdown(), report.markdown(), "{name}");
        }
    }
    assert!(rooflines > 1, "{rooflines}");
}

#[test]
fn what_is_no_record_is_refused_in_words() {
    for (text, error) in [
        ("date,cpu\n", "line 1 does not have the columns of a roofline report"),
        ("# date\n", "line 1 has no `key: value`"),
        (
            "# threads: 1, 2\n# reading L1, GB/s: 5\n",
            "line 2: `reading L1, GB/s` does not have a value for each number of threads",
        ),
        ("# threads: 1\n# reading L9, GB/s: 5\n", "line 2: `L9` is none of peak, L1, L2, L3, memory"),
        ("# threads: one\n", "line 1: `one` is no number"),
        ("# threads: 1\n", "the head does not say which `isa` was measured"),
        ("# isa: avx2\n", "it has no layers, or layers of other numbers of threads than its head"),
    ] {
        assert_eq!(record::read(text).err().as_deref(), Some(error), "{text}");
    }
}
