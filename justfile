# Every daily command. `just` lists them.

default:
    @just --list

# The whole system on loopback, compared at the end
demo *ARGS:
    cargo run --release -- demo {{ARGS}}

# All tests
test:
    cargo test --workspace

# What CI runs
ci:
    .ci/run

# Format, lints, units, sizes
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    ops/check
    git ls-files '*.rs' | xargs wc -l | sort -n | awk '$2 != "total" { n[NR] = $1 } END { print "files:", NR - 1, " median lines:", n[int(NR / 2)], " p90:", n[int(NR * 0.9)] }'

# The session machines in a simulated network; each seed replays a run
simulate SEEDS="10000":
    EDGESYNC_SIM_SEEDS={{SEEDS}} cargo test --release -p edgesync-tests --test sim -- --nocapture

# Fuzz one decoder or parser for some seconds; what it finds joins fuzz/corpus (needs: cargo install cargo-fuzz --locked)
fuzz TARGET SECONDS="60":
    RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer ${FUZZ_SANITIZER:-none} {{TARGET}} -- -max_total_time={{SECONDS}} -max_len=4096 -timeout=10 -rss_limit_mb=2048

# All of them, one after the other
fuzz-all SECONDS="60":
    for target in $(cargo fuzz list); do just fuzz $target {{SECONDS}} || exit 1; done

# Makes the corpora small again, and writes the seeds back; commit what is left
fuzz-small:
    for target in $(cargo fuzz list); do RUSTC_BOOTSTRAP=1 cargo fuzz cmin --sanitizer none $target || exit 1; done
    cargo run -p edgesync-fuzzing

# The log under power loss and flipped bits, in its long form
torture-log IMAGES="100000" FLIPS="20000" SEED="1":
    EDGESYNC_CRASH_IMAGES={{IMAGES}} EDGESYNC_BIT_FLIPS={{FLIPS}} EDGESYNC_CRASH_SEED={{SEED}} cargo test --release -p edgesync-control --test crash -- --nocapture --test-threads 1

# The real root zone and its 1,684 real versions, if the data is beside the project
rootzone:
    cargo test --release -p edgesync-tests --test whole rootzone -- --nocapture

# Benchmarks, each beside its own limit
bench *ARGS="all":
    cargo build --release --workspace
    target/release/edgesync-bench {{ARGS}}

# The protocol's style
proto:
    cd proto && npx --yes @bufbuild/buf lint

# Documentation of all crates
doc:
    cargo doc --workspace --no-deps --open

# SIGKILL of an edge at random times under load
torture-kill-edge CYCLES="5000":
    EDGESYNC_TORTURE_CYCLES={{CYCLES}} cargo test --release -p edgesync-tests --test torture kill_edge -- --nocapture --test-threads 1

# SIGKILL of the control plane at random times under load
torture-kill-control CYCLES="5000":
    EDGESYNC_TORTURE_CYCLES={{CYCLES}} cargo test --release -p edgesync-tests --test torture kill_control -- --nocapture --test-threads 1

# SIGKILL after each single system call of a small life (0: after every one; else a sample of so many)
torture-syscalls SAMPLE="0":
    EDGESYNC_TORTURE_SYSCALLS={{SAMPLE}} cargo test --release -p edgesync-tests --test torture syscalls -- --nocapture --test-threads 1

# The disk as a power cut leaves it (root, loop devices, mkfs.ext4)
torture-power CUTS="220":
    EDGESYNC_TORTURE_CUTS={{CUTS}} cargo test --release -p edgesync-tests --test torture power -- --nocapture --test-threads 1

# One flipped bit in an edge's store
torture-flips FLIPS="10000":
    EDGESYNC_TORTURE_FLIPS={{FLIPS}} cargo test --release -p edgesync-tests --test torture flips -- --nocapture --test-threads 1

# Floods and slow clients against a live control plane, each for some seconds; a good client's p99 beside
torture-attacks SECONDS="60" RATIO="2" WHICH="all":
    EDGESYNC_ATTACKS={{WHICH}} EDGESYNC_ATTACK_SECONDS={{SECONDS}} EDGESYNC_ATTACK_RATIO={{RATIO}} cargo test --release -p edgesync-tests --test attacks -- --nocapture --test-threads 1

# Certificates and keys replaced so many times under load, bad pairs between; no stream may be dropped (about 1 s each)
torture-rotations ROTATIONS="1000":
    EDGESYNC_ROTATIONS={{ROTATIONS}} cargo test --release -p edgesync-tests --test whole rotation -- --nocapture

# Rights that are taken away while streams are open; prints the slowest
revocations RUNS="200":
    EDGESYNC_REVOCATIONS={{RUNS}} cargo test -p edgesync-control --test api taken_away -- --nocapture

# Planted bugs: each breaks one invariant in a copy of the tree, and has to be found (quick, all, or names with commas)
torture-planted WHICH="all":
    EDGESYNC_PLANTED={{WHICH}} cargo test -p edgesync-tests --test planted -- --nocapture --ignored
