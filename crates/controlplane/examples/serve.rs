//! A control plane to try things on: `cargo run -p controlplane --example serve -- [data folder] [port]`.
//!
//! Prints the kubeconfig of the logical cluster `default`, and serves until Ctrl-C.

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;

use controlplane::{ControlPlane, Options};

fn main() -> Result<(), Box<dyn Error>> {
    // A second provider may be the default already; then that one is used.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut args = std::env::args().skip(1);
    let data_dir = args.next().filter(|arg| arg != "-").map(PathBuf::from);
    let port: u16 = args.next().map_or(Ok(0), |port| port.parse())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let options = Options {
            data_dir,
            listen: SocketAddr::from(([127, 0, 0, 1], port)),
            clusters: vec!["default".to_owned(), "provider".to_owned(), "consumer".to_owned()],
            ..Options::default()
        };
        let control_plane = ControlPlane::start(options).await?;
        println!("{}", control_plane.admin_kubeconfig("default"));
        std::future::pending::<()>().await;
        Ok(())
    })
}
