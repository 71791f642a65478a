//! The story itself: S1, a second provider (S9, S15), and the unbind. Each step is typed, shown and checked.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::client::Database;
use super::kubectl::{Hand, Outcome};
use super::leftovers;
use crate::browser::{Browser, log_in_and_bind};
use crate::stage::{Provider, Stage};

const PATIENCE: Duration = Duration::from_secs(30);

const ORDER: &str = "\
apiVersion: mangodb.com/v1alpha1
kind: MongoDB
metadata:
  name: prod
spec:
  tier: dedicated
  region: eu-central-1
  backup: true
  tokenSecret: db-token
";

const SHIRT: &str = "\
apiVersion: kubecon.kube-bind.io/v1alpha1
kind: TShirtClaim
metadata:
  name: stefan
spec:
  size: XL
";

const PRIVATE: &str = "\
apiVersion: v1
kind: Secret
metadata:
  name: private
stringData:
  password: nobody but me
";

/// Plays everything.
pub(super) async fn tell(stage: &Stage, hand: &Hand) -> Result<()> {
    let [mangodb, tshirt] = stage.providers() else { bail!("two providers are expected on the stage") };
    let mut browser = Browser::new()?;

    chapter("A database service, bound into the consumer cluster");
    let seen = bind(stage, hand, &mut browser, mangodb, Some("y")).await?;
    for line in [
        "MangoDB Inc. requests the following permission claims:\n1. Create secrets referenced in MongoDB.spec.tokenSecret\n2. Create service named MongoDB.metadata.name\nAccept? [y,N] ",
        "Added APIs: mangodb.mangodb.com\n",
        "Accepted permission claims.\n",
    ] {
        check("kubectl bind", &seen, line)?;
    }
    use_database(stage, hand, mangodb).await?;

    chapter("A second provider, which the first one knows nothing of");
    let seen = bind(stage, hand, &mut browser, tshirt, None).await?;
    check("kubectl bind", &seen, "Added APIs: tshirtclaim.kubecon.kube-bind.io\n")?;
    order_shirt(hand).await?;
    let bindings = hand.type_in(&["get", "apibindings"]).await?;
    for provider in [mangodb, tshirt] {
        check_row(&bindings.text, provider.name, &[&provider.url, "Connected"])?;
    }

    chapter("Taking it all back");
    let refused = unbind(hand, &["mangodb"]).await?;
    check_failed("kubectl bind unbind mangodb", &refused, "still has 1 mangodbs.mangodb.com")?;
    for name in ["mangodb", "tshirt"] {
        let outcome = unbind(hand, &[name, "--delete-objects"]).await?;
        check_success(&format!("kubectl bind unbind {name}"), &outcome)?;
    }
    nothing_is_left(stage, mangodb, tshirt).await?;
    let private = hand.quietly(&["get", "secrets", "private"]).await?;
    check_success("the Secret that was nobody's business is still there", &private)
}

fn chapter(title: &str) {
    println!("\n# {title}");
}

/// Binds a provider: the command at a terminal, a browser for the login, and the answer to the question if one is asked.
async fn bind(
    stage: &Stage,
    hand: &Hand,
    browser: &mut Browser,
    provider: &Provider,
    answer: Option<&str>,
) -> Result<String> {
    let mut terminal = hand.bind(&[&provider.url, "--skip-browser"])?;
    let seen = terminal.expect("code_challenge=", PATIENCE).await?;
    // The whole line must have arrived.
    let seen =
        if seen.trim_end_matches(' ').ends_with('\n') { seen } else { terminal.expect("\n\n", PATIENCE).await? };
    let url = seen
        .split_whitespace()
        .find(|word| word.starts_with("http://") && word.contains("code_challenge="))
        .context("kubectl bind printed no URL")?;
    let login = stage.logins().first().context("there is no login")?;
    log_in_and_bind(browser, url, login, |words| println!("  browser: {words}")).await?;
    if let Some(answer) = answer {
        terminal.expect("Accept? [y,N] ", PATIENCE).await?;
        terminal.type_line(answer)?;
    }
    let (status, seen) = terminal.end(Duration::from_secs(120)).await?;
    if !status.success() {
        bail!("kubectl bind {}: expected exit code 0, seen {status} and:\n{seen}", provider.url);
    }
    Ok(seen)
}

async fn use_database(stage: &Stage, hand: &Hand, provider: &Provider) -> Result<()> {
    let none = hand.type_in(&["get", "mangodbs"]).await?;
    check("kubectl get mangodbs", &none.text, "No resources found in default namespace.")?;

    hand.manifest("secret.yaml", PRIVATE)?;
    check_success("kubectl apply", &hand.type_in(&["apply", "-f", "secret.yaml"]).await?)?;
    hand.manifest("db-prod.yaml", ORDER)?;
    let applied = hand.type_in(&["apply", "-f", "db-prod.yaml"]).await?;
    check("kubectl apply", &applied.text, "mongodb.mangodb.com/prod created")?;

    let pods = hand.type_in(&["get", "pods", "-A"]).await?;
    check("kubectl get pods -A", &pods.text, "No resources found")?;

    let table = hand.until(&["get", "mangodb"], PATIENCE, |text| text.contains("Running")).await?;
    check_row(&table.text, "prod", &["dedicated", "eu-central-1", "0.1MB", "Running"])?;

    let yaml = hand.type_in(&["get", "mangodbs", "prod", "-o", "yaml"]).await?;
    let object = apimachinery::yaml::document(&yaml.text)
        .with_context(|| format!("kubectl get -o yaml: expected YAML, seen:\n{}", yaml.text))?;
    let ordered = apimachinery::yaml::document(ORDER)?;
    equal("spec", object.get("spec"), ordered.get("spec"))?;
    let ready = object
        .pointer("/status/conditions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .find(|c| c["type"] == "Ready");
    equal("condition Ready", ready.and_then(|ready| ready.get("status")), Some(&Value::from("True")))?;

    let services = hand.until(&["get", "services"], PATIENCE, |text| text.contains("prod ")).await?;
    check_row(&services.text, "prod", &["ExternalName", ".eu-central-1.mangodb.localhost"])?;
    let bindings = hand.type_in(&["get", "apibindings"]).await?;
    check_row(&bindings.text, "mangodb", &[&provider.url, "Connected"])?;

    let wrong = ORDER.replace("name: prod", "name: wrong").replace("dedicated", "gigantic");
    hand.manifest("db-wrong.yaml", &wrong)?;
    let refused = hand.type_in(&["apply", "-f", "db-wrong.yaml"]).await?;
    check_failed("kubectl apply of an invalid tier", &refused, "spec.tier")?;

    connect(stage, hand, provider).await
}

/// An application uses the database with what arrived in the consumer cluster.
async fn connect(stage: &Stage, hand: &Hand, provider: &Provider) -> Result<()> {
    let secret = hand.until(&["get", "secrets"], PATIENCE, |text| text.contains("db-token ")).await?;
    check_row(&secret.text, "db-token", &["Opaque"])?;
    let read = async |kind: &str, name: &str| -> Result<Value> {
        let outcome = hand.quietly(&["get", kind, name, "-o", "yaml"]).await?;
        apimachinery::yaml::document(&outcome.text)
            .with_context(|| format!("{kind} {name}: expected YAML, seen:\n{}", outcome.text))
    };
    let database = Database::new(&read("services", "prod").await?, &read("secrets", "db-token").await?)?;
    println!("\n# An application reads Service prod and Secret db-token and connects to {}", database.url());
    let value = "four hundred kilobytes of mangoes. ".repeat(12_000);
    equal("writing", Some(&Value::from(database.write("fruit", value.clone()).await?)), Some(&Value::from(204)))?;
    if database.read("fruit").await? != value {
        bail!("reading back: expected what was written, seen something else");
    }
    println!("  wrote {} bytes and read them back", value.len());
    equal(
        "a wrong token",
        Some(&Value::from(database.read_with_wrong_token("fruit").await?)),
        Some(&Value::from(401)),
    )?;
    println!("  a wrong token is refused (401)");
    let grown = hand.until(&["get", "mangodb"], PATIENCE, |text| text.contains("0.5MB")).await?;
    check_row(&grown.text, "prod", &["0.5MB", "Running"])?;

    let strays = leftovers::secrets_named(&provider.kubeconfig, "private").await?;
    if !strays.is_empty() {
        bail!("Secret private: expected to stay in the consumer cluster, seen at the provider: {strays:?}");
    }
    println!(
        "\n# The Secret \"private\" stayed where it was: {} has none of that name.",
        stage.providers()[0].pretty_name
    );
    Ok(())
}

async fn order_shirt(hand: &Hand) -> Result<()> {
    hand.manifest("t-shirt.yaml", SHIRT)?;
    let created = hand.type_in(&["create", "-f", "t-shirt.yaml"]).await?;
    check("kubectl create", &created.text, "tshirtclaim.kubecon.kube-bind.io/stefan created")?;
    let yaml = hand
        .until(&["get", "-f", "t-shirt.yaml", "-o", "yaml"], PATIENCE, |text| text.contains("ordered: true"))
        .await?;
    let object =
        apimachinery::yaml::document(&yaml.text).with_context(|| format!("expected YAML, seen:\n{}", yaml.text))?;
    equal("status.ordered", object.pointer("/status/ordered"), Some(&Value::from(true)))?;
    for field in ["/status/booth", "/status/code", "/status/conditions/TShirtOrderedSuccessfully/message"] {
        if object.pointer(field).and_then(Value::as_str).is_none_or(str::is_empty) {
            bail!("{field}: expected a text, seen:\n{}", yaml.text);
        }
    }
    let condition = object.pointer("/status/conditions/TShirtOrderedSuccessfully/status");
    equal("condition TShirtOrderedSuccessfully", condition, Some(&Value::from("True")))
}

async fn unbind(hand: &Hand, args: &[&str]) -> Result<Outcome> {
    let mut words = vec!["unbind"];
    words.extend(args);
    let (status, text) = hand.bind(&words)?.end(Duration::from_secs(150)).await?;
    Ok(Outcome { text, success: status.success() })
}

async fn nothing_is_left(stage: &Stage, mangodb: &Provider, tshirt: &Provider) -> Result<()> {
    println!("\n# Looking through both sides for anything of ours ...");
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let bound = ["mangodbs.mangodb.com", "tshirtclaims.kubecon.kube-bind.io", "db-token", "prod"];
        let mut left = leftovers::in_consumer(&stage.consumer_kubeconfig(), &bound).await?;
        left.extend(leftovers::at_provider(&mangodb.kubeconfig, ("mangodb.com", "v1alpha1", "mangodbs")).await?);
        left.extend(
            leftovers::at_provider(&tshirt.kubeconfig, ("kubecon.kube-bind.io", "v1alpha1", "tshirtclaims")).await?,
        );
        if left.is_empty() {
            println!("  nothing.");
            return Ok(());
        }
        if tokio::time::Instant::now() > deadline {
            bail!("after the unbind: expected nothing of ours, seen:\n  {}", left.join("\n  "));
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

fn check(what: &str, seen: &str, expected: &str) -> Result<()> {
    if seen.contains(expected) {
        return Ok(());
    }
    bail!(
        "{what}: expected\n  {}\nseen\n  {}",
        expected.trim_end().replace('\n', "\n  "),
        seen.trim_end().replace('\n', "\n  ")
    )
}

fn check_success(what: &str, outcome: &Outcome) -> Result<()> {
    if outcome.success {
        return Ok(());
    }
    bail!("{what}: expected success, seen\n  {}", outcome.text.trim_end().replace('\n', "\n  "))
}

fn check_failed(what: &str, outcome: &Outcome, expected: &str) -> Result<()> {
    if outcome.success {
        bail!("{what}: expected to be refused, but it succeeded:\n{}", outcome.text);
    }
    check(what, &outcome.text, expected)
}

/// A table must have a row that begins with `name` and contains the rest.
fn check_row(table: &str, name: &str, cells: &[&str]) -> Result<()> {
    let row = table.lines().find(|line| line.split_whitespace().next() == Some(name));
    if row.is_some_and(|row| cells.iter().all(|cell| row.contains(cell))) {
        return Ok(());
    }
    bail!("expected a row {name:?} with {}, seen\n  {}", cells.join(", "), table.trim_end().replace('\n', "\n  "))
}

fn equal(what: &str, seen: Option<&Value>, expected: Option<&Value>) -> Result<()> {
    if seen == expected {
        return Ok(());
    }
    let show = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), Value::to_string);
    bail!("{what}: expected {}, seen {}", show(expected), show(seen))
}
