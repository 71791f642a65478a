//! Writes the generated CRDs to `deploy/crds` (or to the folder given as first argument), one YAML file a kind.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let default = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../deploy/crds");
    let folder = std::env::args_os().nth(1).map_or(default, PathBuf::from);
    std::fs::create_dir_all(&folder)?;
    for crd in kube_bind_api::crds() {
        let name = format!("kube-bind.io_{}.yaml", crd.spec.names.plural);
        let text = serde_saphyr::to_string(&serde_json::to_value(&crd)?)?;
        std::fs::write(folder.join(&name), text)?;
        println!("{name}");
    }
    Ok(())
}
