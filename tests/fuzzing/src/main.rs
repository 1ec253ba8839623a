//! Writes the hand-made inputs to `fuzz/corpus/TARGET/seed-…`: `cargo run -p edgesync-fuzzing`.

use std::{fs, path::Path};

use edgesync_fuzzing::TARGETS;

fn main() -> std::io::Result<()> {
    for target in TARGETS {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
        let folder = corpus.join(target.name);
        fs::create_dir_all(&folder)?;
        let seeds = (target.seeds)();
        for (index, (name, octets)) in seeds.iter().enumerate() {
            fs::write(folder.join(format!("seed-{index:02}-{}", name.replace(' ', ""))), octets)?;
        }
        println!("{}: {} seeds", target.name, seeds.len());
    }
    Ok(())
}
