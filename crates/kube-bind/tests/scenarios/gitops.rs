//! Binding as data (S3, S4, S6): a dry run into a file, a credential into another, both given to a cluster that no browser
//! ever bound; a Secret instead of the file; and plain objects in any order.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube_bind_api::GroupResource;
use serde_json::{Value, json};
use testkit::program::{Person, file};
use testkit::service::Service;
use testkit::site::{bindings, core};
use testkit::world::World;

use super::consent::picture;

/// The requests of an offering as YAML, and the credential of the contract.
async fn files(world: &World, person: &Person, plural: &str) -> (String, String) {
    let server = world.providers[0].server.as_str();
    let url = format!("{server}/kubernetes");
    let requests = person.bind(&[server, "--template", plural, "--dry-run", "-o", "yaml"], "").await.ok().stdout;
    let credential = person.bind(&["kubeconfig", &url], "").await.ok().stdout;
    (requests, credential)
}

#[tokio::test]
async fn a_cluster_that_no_browser_bound_is_bound_from_two_files() {
    let world = World::new(super::PROGRAM, Service::new(121)).await;
    let service = world.service();
    let name = service.plural.as_str();
    let consumer = &world.consumers[0];
    let person = &consumer.person;
    let server = world.providers[0].server.as_str();
    let _ = person.bind(&["kubeconfig", server], "").await.refused(&["no login", "kubectl bind login"]);
    let _ = person.log_in(server, &world.logins[0]).await.ok();

    // S3 after a login: only YAML on standard output, nothing changed anywhere.
    let before = (picture(&consumer.site).await, picture(&world.providers[0].site).await);
    let ended = person.bind(&[server, "--template", name, "--dry-run", "-o", "yaml"], "").await.ok();
    let documents = apimachinery::yaml::documents(&ended.stdout).unwrap();
    assert!(!documents.is_empty());
    for document in &documents {
        assert_eq!(
            (&document["kind"], &document["apiVersion"]),
            (&json!("APIServiceExportRequest"), &json!("kube-bind.io/v1alpha2"))
        );
        let claims = document["spec"]["permissionClaims"].as_array().unwrap();
        assert!(claims.len() == 2 && claims.iter().all(|claim| claim["state"] == "Pending"), "{document}");
    }
    assert_eq!(ended.stderr, "");
    // Without a login too: the browser's URL is talk, and goes to standard error.
    let url = format!("{server}/exports");
    let typed = testkit::typed::Typed::start(person, &[&url, "--skip-browser", "--dry-run", "-o", "yaml"]).await;
    let mut browser = kube_bind::browser::Browser::new().unwrap();
    kube_bind::browser::log_in_and_bind(&mut browser, &typed.url, &world.logins[0], |_| {}).await.unwrap();
    assert_eq!(apimachinery::yaml::documents(&typed.end().await.ok().stdout).unwrap(), documents);
    assert_eq!((picture(&consumer.site).await, picture(&world.providers[0].site).await), before);

    let (requests, credential) = files(&world, person, name).await;
    let remote = file(world.folder(), "provider.kubeconfig", &credential);
    let pending = file(world.folder(), "apiservice-binding-requests.yaml", &requests);
    let apiservice = async |manifest: &str, input: &str| {
        person.bind(&["apiservice", "-f", manifest, "--remote-kubeconfig", &remote], input).await
    };
    let refused = apiservice(&pending, "").await.refused(&[
        "1. Create secrets referenced in",
        "[Pending]",
        "--accept-claims",
        "state: Accepted",
    ]);
    assert_eq!(refused.stdout, "");
    assert_eq!(picture(&consumer.site).await, before.0, "refused before anything is written");
    let reviewed = requests.replace("state: Pending", "state: Accepted");
    let one_left = requests.replacen("state: Pending", "state: Accepted", 1);
    let _ = apiservice("-", &one_left).await.refused(&["1 permission claims"]);
    let ended = apiservice(&file(world.folder(), "reviewed.yaml", &reviewed), "").await.ok();
    assert!(
        ended.stdout.contains("Added APIs: ") && ended.stdout.contains("Accepted permission claims."),
        "{}",
        ended.stdout
    );
    world.phase(name, "Connected").await;
    let binding = consumer.site.get(&bindings(), "", name).await.unwrap();
    assert_eq!(
        binding["spec"]["reference"]["export"]["url"],
        format!("{server}/kubernetes"),
        "the URL came with the credential"
    );
    world.make("default", "one", "one-token").await;

    // Twice is once; also from standard input, also with the flag instead of the file's word.
    let _ = apiservice("-", &reviewed).await.ok();
    let _ =
        person.bind(&["apiservice", "-f", &pending, "--remote-kubeconfig", &remote, "--accept-claims"], "").await.ok();
    let after = consumer.site.get(&bindings(), "", name).await.unwrap();
    assert_eq!((&binding["spec"], &binding["metadata"]["uid"]), (&after["spec"], &after["metadata"]["uid"]));
    let secrets = consumer.site.list(&core("secrets")).await;
    let kept: Vec<_> = secrets.iter().filter_map(|secret| secret["data"]["kubeconfig"].as_str()).collect();
    assert_eq!(kept.len(), 1);
    world.end().await;
}

#[tokio::test]
async fn the_credential_may_lie_in_a_secret_and_needs_a_namespace() {
    let mut world = World::new(super::PROGRAM, Service::new(122)).await;
    let service = world.service();
    let name = service.plural.clone();
    let server = world.providers[0].server.clone();
    world.add_consumer().await;
    let secret = |namespace: &str, credential: &str| json!({"metadata": {"name": "from-vault", "namespace": namespace}, "data": {"kubeconfig": STANDARD.encode(credential)}});
    // The agent reads Secrets in its own namespace only; elsewhere the content is copied there.
    for (consumer, namespace, kept) in
        [(&world.consumers[0], "kube-bind", "from-vault"), (&world.consumers[1], "default", name.as_str())]
    {
        let login = if consumer.site.cluster == "consumer1" { &world.logins[0] } else { &world.logins[1] };
        let _ = consumer.person.log_in(&server, login).await.ok();
        let (requests, credential) = files(&world, &consumer.person, &name).await;
        let by_secret = [
            "apiservice",
            "-f",
            "-",
            "--accept-claims",
            "--remote-kubeconfig-namespace",
            namespace,
            "--remote-kubeconfig-name",
            "from-vault",
        ];
        let missing = consumer.person.bind(&by_secret, &requests).await;
        let _ = missing.refused(&[&format!("Secret {namespace}/from-vault"), "no such Secret"]);
        let _ = consumer.person.bind(&by_secret[..6], &requests).await.refused(&["--remote-kubeconfig-name"]);
        let _ = consumer.person.bind(&by_secret[..4], &requests).await.refused(&["--remote-kubeconfig"]);
        let mut empty = secret(namespace, &credential);
        empty["data"] = json!({"other": ""});
        consumer.site.apply(&core("secrets"), &empty).await;
        let _ = consumer.person.bind(&by_secret, &requests).await.refused(&["no key kubeconfig"]);
        consumer.site.apply(&core("secrets"), &secret(namespace, &credential)).await;
        let _ = consumer.person.bind(&by_secret, &requests).await.ok();
        let binding = consumer.site.get(&bindings(), "", &name).await.unwrap();
        assert_eq!(
            binding["spec"]["kubeconfigSecretRef"],
            json!({"namespace": "kube-bind", "name": kept, "key": "kubeconfig"})
        );
        assert_eq!(binding["status"]["phase"], "Connected");
    }

    // A kubeconfig without a namespace does not say which contract is meant.
    let person = &world.consumers[0].person;
    let _ = person.bind(&["unbind", &name], "").await.ok();
    let (requests, credential) = files(&world, person, &name).await;
    let mut config = apimachinery::yaml::document(&credential).unwrap();
    let contract = config["contexts"][0]["context"]["namespace"].as_str().unwrap().to_owned();
    config["contexts"][0]["context"].as_object_mut().unwrap().remove("namespace");
    let remote = file(world.folder(), "no-namespace.kubeconfig", &apimachinery::yaml::write(&config));
    let words = ["apiservice", "-f", "-", "--accept-claims", "--remote-kubeconfig", &remote];
    let _ = person.bind(&words, &requests).await.refused(&[
        "no-namespace.kubeconfig",
        "names no namespace",
        "--remote-namespace",
    ]);
    assert!(world.consumers[0].site.list(&bindings()).await.is_empty());
    let _ = person.bind(&[&words[..], &["--remote-namespace", &contract]].concat(), &requests).await.ok();
    world.phase(&name, "Connected").await;
    world.end().await;
}

/// The agent's rights for a binding, as plain objects.
fn rights(name: &str, service: &Service) -> Vec<Value> {
    let bound = [GroupResource::new(service.group.clone(), service.plural.clone())];
    let claimed = [GroupResource::new("", "secrets"), GroupResource::new("", "services")];
    let rights = contract::rbac::consumer::binding(name, None, &bound, &claimed);
    let object = |kind: &str, mut object: Value| {
        object["apiVersion"] = json!("rbac.authorization.k8s.io/v1");
        object["kind"] = json!(kind);
        object
    };
    vec![
        object("ClusterRole", json!(rights.claims_role)),
        object("ClusterRole", json!(rights.cluster_role)),
        object("ClusterRoleBinding", json!(rights.cluster_role_binding)),
    ]
}

#[tokio::test]
async fn plain_objects_in_any_order_lead_to_the_same() {
    if testkit::program::kubectl().is_none() {
        return;
    }
    let mut world = World::new(super::PROGRAM, Service::new(123)).await;
    let service = world.service();
    let name = service.plural.clone();
    world.add_consumer().await;
    for (at, backwards) in [(0, false), (1, true)] {
        let consumer = &world.consumers[at];
        let _ = consumer.person.log_in(&world.providers[0].server, &world.logins[at]).await.ok();
        let (requests, credential) = files(&world, &consumer.person, &name).await;
        let contract =
            Person { kubeconfig: file(world.folder(), "contract", &credential).into(), ..consumer.person.clone() };
        let request = apimachinery::yaml::document(&requests).unwrap();
        let mut claims = request["spec"]["permissionClaims"].clone();
        for claim in claims.as_array_mut().unwrap() {
            claim["state"] = json!("Accepted");
        }
        // S6: `core` is the empty group.
        claims[0]["group"] = json!("core");
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "kube-bind"},
            "data": {"kubeconfig": STANDARD.encode(&credential)},
        });
        let binding = json!({
            "apiVersion": "kube-bind.io/v1alpha2", "kind": "APIServiceBinding", "metadata": {"name": name},
            "spec": {
                "reference": {"export": {"url": format!("{}/kubernetes", world.providers[0].server)}},
                "kubeconfigSecretRef": {"namespace": "kube-bind", "name": name, "key": "kubeconfig"},
                "permissionClaims": claims,
            },
        });
        let mut steps = vec![(&contract, request), (&consumer.person, secret)];
        steps.extend(rights(&name, &service).into_iter().map(|object| (&consumer.person, object)));
        steps.push((&consumer.person, binding));
        if backwards {
            steps.reverse();
        }
        for (who, object) in steps {
            let _ = who.kubectl(&["apply", "-f", "-"], &apimachinery::yaml::write(&object)).await.unwrap().ok();
        }
        testkit::eventually("the binding is Connected", async || {
            let binding = consumer.site.get(&bindings(), "", &name).await.unwrap_or_default();
            if binding["status"]["phase"] == "Connected" { Ok(()) } else { Err(binding["status"].to_string()) }
        })
        .await;
        consumer.site.apply(&service.resource(), &service.object("default", "one", "one-token")).await;
        testkit::eventually("the token arrived", async || {
            consumer.site.get(&core("secrets"), "default", "one-token").await.map(|_| ()).ok_or("no Secret".to_owned())
        })
        .await;
    }
    world.end().await;
}

#[tokio::test]
async fn a_file_means_what_it_means_to_kubectl() {
    let world = World::new(super::PROGRAM, Service::new(124)).await;
    let service = world.service();
    let text = format!(
        "# YAML 1.1\n---\napiVersion: kube-bind.io/v1alpha2\nkind: APIServiceExportRequest\nmetadata: {{name: things}}\nspec:\n  \
         parameters: {{on: no, n: 'off', octal: 0755, sexagesimal: 1:30, list: [yes, Off, ~, 'y', 1e3]}}\n  \
         resources:\n  - {{group: {}, resource: {}, versions: ['{}']}}\n  permissionClaims:\n  \
         - &claim {{group: '', resource: secrets, required: y, selector: {{labelSelector: {{matchLabels: {{y: 'no', n: 'on'}}}}}}}}\n  \
         - {{<<: *claim, required: off, resource: configmaps}}\n",
        service.group, service.plural, service.version
    );
    let path = file(world.folder(), "yaml11.yaml", &text);
    let person = &world.consumers[0].person;
    let ended = person.bind(&["apiservice", "-f", &path, "--dry-run", "-o", "json"], "").await.ok();
    let ours: Value = serde_json::from_str(&ended.stdout).unwrap();
    let parameters = &ours["spec"]["parameters"];
    assert_eq!((&parameters["true"], &parameters["false"]), (&json!(false), &json!("off")), "booleans as keys: {ours}");
    let claims = &ours["spec"]["permissionClaims"];
    assert_eq!((&claims[0]["required"], &claims[1]["required"]), (&json!(true), &json!(false)));
    assert_eq!(claims[0]["selector"]["labelSelector"]["matchLabels"], json!({"true": "no", "false": "on"}));
    // kubectl itself is the judge.
    let admin = Person { kubeconfig: world.providers[0].site.kubeconfig.clone(), ..person.clone() };
    if let Some(judged) = admin.kubectl(&["create", "--dry-run=client", "-o", "json", "-f", &path], "").await {
        let theirs: Value = serde_json::from_str(&judged.ok().stdout).unwrap();
        assert_eq!(ours["spec"]["parameters"], theirs["spec"]["parameters"]);
        assert_eq!(ours["spec"]["permissionClaims"][0]["selector"], theirs["spec"]["permissionClaims"][0]["selector"]);
        assert_eq!(ours["spec"]["permissionClaims"][1]["required"], theirs["spec"]["permissionClaims"][1]["required"]);
    }
    world.end().await;
}
