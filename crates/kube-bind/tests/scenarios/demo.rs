//! S1, S9 and S15 as `kube-bind demo` plays them.

use std::process::Stdio;
use std::time::Duration;

#[tokio::test]
async fn the_demo_plays_to_its_end() {
    let mut command = tokio::process::Command::new(super::PROGRAM);
    command.arg("demo").stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(240), command.output()).await.unwrap().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    for line in [
        "MangoDB Inc. requests the following permission claims:",
        "1. Create secrets referenced in MongoDB.spec.tokenSecret",
        "2. Create service named MongoDB.metadata.name",
        "Accept? [y,N] ",
        "Added APIs: mangodb.mangodb.com",
        "Accepted permission claims.",
        "Added APIs: tshirtclaim.kubecon.kube-bind.io",
    ] {
        assert!(said.contains(line), "{line:?} is missing in:\n{said}");
    }
}
