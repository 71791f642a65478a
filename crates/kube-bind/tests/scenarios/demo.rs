//! S1, S9 and S15 as `kube-bind demo` plays them: everything that it prints, word for word.

use std::process::Stdio;
use std::time::Duration;

use super::golden::{self, Mask};

#[tokio::test]
async fn the_demo_plays_to_its_end() {
    // Without a kubectl it asks the API server itself and says so; the story is the same.
    let Some(kubectl) = testkit::program::kubectl() else { return };
    let mut command = tokio::process::Command::new(super::PROGRAM);
    command.arg("demo").env_remove("RUST_LOG").stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(240), command.output()).await.unwrap().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = format!("{stdout}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    let server = |name: &str| said.split_whitespace().find(|word| word.ends_with(name)).unwrap_or_default().to_owned();
    let mask = Mask::new()
        .name(&kubectl.to_string_lossy(), "<kubectl>")
        .name(&server("/kubernetes"), "http://mangodb.example/kubernetes")
        .name(&server("/export"), "http://tshirt.example/export")
        .form(r"\S+/kube-bind-[0-9A-Za-z]{6}/", "<folder>/")
        // Where this database listens, and the code of this shirt.
        .form(r"\bas[0-9a-f]+\.eu-central-1\.mangodb\.localhost(:\d+)?", "as<number>.eu-central-1.mangodb.localhost$1")
        .form(r"\b(mangodb\.localhost):\d{4,5}", "$1:<port>")
        .form(r"^(    code|  code): \S+$", "$1: <code>");
    golden::check("transcripts/demo.txt", &mask.apply(&stdout));
}
