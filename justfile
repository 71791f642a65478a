# Every habit of this project. `just` lists them.
default:
    @just --list

# Format, lint, licences and bans, documentation.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    ./scripts/deny
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
    ./scripts/check-names

# All tests that need nothing but Rust (those that want kubectl, Python or Chromium say so when they skip).
test:
    cargo test --workspace

# The whole story on one machine.
demo:
    cargo run --release -- demo

# The same set, staying up.
dev *ARGS:
    cargo run --release -- dev {{ARGS}}

# Clients that nobody here wrote: kubectl 1.20, Python kubernetes, kr8s, kopf.
test-clients:
    ./scripts/clients

# etcd, kube-apiserver and kube-controller-manager, built with Go into target/kubernetes (KUBEBUILDER_ASSETS wins).
kubernetes:
    ./scripts/kubernetes

# The scenarios on real API servers on both sides (installed by the charts) and on one; a matrix ends it. FILTER plays some.
test-real *FILTER:
    ./scripts/test-real {{FILTER}}

# Pages in headless Chromium, with screenshots under target/screenshots.
test-browser:
    ./scripts/browser

# The login against an OpenID Connect issuer that no one here wrote (oidc-provider from npm), in headless Chromium.
test-oidc:
    ./scripts/oidc

# The table of docs/performance.md.
bench:
    cargo run --release -p benches

# The agent between two real API servers against the floor, as it is shipped; or only some parts: delay, rate, many.
bench-real *PARTS: kubernetes
    cargo build --profile dist -p konnector
    KONNECTOR=target/dist/konnector cargo run --release -p benches -- real {{PARTS}}

# The same in a few minutes, as CI shows it: no bars.
bench-short:
    ./scripts/performance short

# Write deploy/crds from the Rust types.
crds:
    cargo run -q -p kube-bind-api --example crds

# Write the charts' generated files (rights, CRDs, policies) from the Rust types.
charts:
    KUBE_BIND_WRITE=1 cargo test -q -p contract --test charts

# The charts with Helm itself (on PATH, or built with Go), rendered and on a real Kubernetes.
test-charts:
    ./scripts/helm
