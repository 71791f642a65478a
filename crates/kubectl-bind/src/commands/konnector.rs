//! `kubectl bind konnector`: what installs the agent, as manifests; or a kubeconfig for an agent that runs elsewhere. The
//! manifests are what a bind installs, to the letter.

use std::time::Duration;

use contract::install::{self, VERSION};
use kube_bind_api::constants::{CONSUMER_NAMESPACE, KONNECTOR};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::args::{Common, DocumentFormat, KonnectorArgs};
use crate::changes::Changes;
use crate::cluster::{Cluster, kinds};
use crate::errors::CliError;
use crate::kubeconfig;
use crate::print;

/// The Secret with a token of the agent's account that lasts until the Secret is deleted.
const TOKEN: &str = "konnector-token";
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn run(args: &KonnectorArgs, common: &Common) -> Result<(), CliError> {
    if args.print_kubeconfig {
        return print::line(&credential(common).await?);
    }
    print::documents(&manifests(args), DocumentFormat::Yaml)
}

/// Everything that a bind would install.
fn manifests(args: &KonnectorArgs) -> Vec<Value> {
    let mut objects = install::objects(VERSION);
    if !args.without_policies {
        objects.extend(install::policies(VERSION));
    }
    if !args.without_deployment {
        objects.push(install::deployment(VERSION, args.konnector_image.as_deref()));
    }
    objects
}

/// A kubeconfig of this cluster with a token of the agent's account.
async fn credential(common: &Common) -> Result<String, CliError> {
    let consumer = Cluster::consumer(common).await?;
    let cluster = kubeconfig::cluster(common)?;
    if consumer.get(&kinds::service_accounts(), CONSUMER_NAMESPACE, KONNECTOR).await?.is_none() {
        return Err(CliError::NoAccount);
    }
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {
            "name": TOKEN, "namespace": CONSUMER_NAMESPACE,
            "annotations": {"kubernetes.io/service-account.name": KONNECTOR},
        },
    });
    Changes::default().ensure(&consumer, &secret).await?;
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let secret = consumer.get(&kinds::secrets(), CONSUMER_NAMESPACE, TOKEN).await?.unwrap_or_default();
        if let Some(token) = kubeconfig::kubeconfig_of(&secret, "token") {
            return Ok(kubeconfig::with_token(&cluster, &String::from_utf8_lossy(&token)));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let (namespace, name) = (CONSUMER_NAMESPACE.to_owned(), TOKEN.to_owned());
    Err(CliError::NoToken { namespace, name, seconds: PATIENCE.as_secs() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_what_a_bind_installs() {
        let args = |without_deployment, without_policies| KonnectorArgs {
            without_deployment,
            without_policies,
            konnector_image: None,
            print_kubeconfig: false,
        };
        let whole =
            [install::objects(VERSION), install::policies(VERSION), vec![install::deployment(VERSION, None)]].concat();
        assert_eq!(manifests(&args(false, false)), whole);
        let count = |kind: &str, objects: &[Value]| objects.iter().filter(|object| object["kind"] == kind).count();
        let bare = manifests(&args(true, true));
        assert_eq!((count("Deployment", &bare), count("ValidatingAdmissionPolicy", &bare)), (0, 0));
        assert_eq!(count("Deployment", &whole), 1);
        assert!(count("ValidatingAdmissionPolicy", &whole) > 1);
    }
}
