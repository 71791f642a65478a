//! The command line: what can be typed, as data. No decisions here.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Bind APIs that a provider runs into this cluster, and use them with kubectl.
#[derive(Parser, Debug)]
#[command(name = "kubectl bind", bin_name = "kubectl bind", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) bind: BindArgs,
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// Which clusters and files are meant.
#[derive(Args, Debug, Clone)]
pub(crate) struct Common {
    /// Kubeconfig of the consumer cluster (for `provider` commands: of the provider cluster)
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context in that kubeconfig
    #[arg(long, global = true)]
    pub(crate) context: Option<String>,
    /// Where logins are kept
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    pub(crate) config_file: Option<PathBuf>,
    /// PEM certificates to trust for the provider's server, besides those of the system
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    pub(crate) server_ca_file: Option<PathBuf>,
    /// Trust whoever answers for the provider's server
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) insecure_skip_tls_verify: bool,
}

/// The interactive bind.
#[derive(Args, Debug)]
pub(crate) struct BindArgs {
    /// What to bind: the URL that the provider gave
    pub(crate) url: Option<String>,
    #[command(flatten)]
    pub(crate) consent: ConsentArgs,
    #[command(flatten)]
    pub(crate) dry_run: DryRun,
    /// Print the URL instead of opening a browser
    #[arg(long)]
    pub(crate) skip_browser: bool,
    /// Choose this offering, with the login of `kubectl bind login` instead of a browser
    #[arg(long, value_name = "OFFERING")]
    pub(crate) template: Option<String>,
    /// Give up when the browser has not come back after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600, hide_short_help = true)]
    pub(crate) timeout: u64,
    #[command(flatten)]
    pub(crate) agent: AgentArgs,
    /// Name of the binding; default: what the provider proposes
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Identity of the consumer cluster; default: the UID of its namespace kube-system
    #[arg(long, hide_short_help = true)]
    pub(crate) cluster_identity: Option<String>,
}

/// How permission claims are answered.
#[derive(Args, Debug, Clone)]
pub(crate) struct ConsentArgs {
    /// Accept the provider's permission claims without asking
    #[arg(long)]
    pub(crate) accept_claims: bool,
}

/// Printing instead of doing.
#[derive(Args, Debug, Clone)]
pub(crate) struct DryRun {
    /// Print the requests that would be made, and change nothing anywhere
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// How to print them
    #[arg(short, long, value_enum, default_value = "yaml")]
    pub(crate) output: DocumentFormat,
}

/// The agent in the consumer cluster.
#[derive(Args, Debug, Clone)]
pub(crate) struct AgentArgs {
    /// Install no agent and leave one alone that is; without any it says how to run one
    #[arg(long)]
    pub(crate) skip_konnector: bool,
    /// Have the API server give new objects their finalizer, which saves the agent a write each (Kubernetes 1.36); while an
    /// API server starts it may refuse new objects for some seconds
    #[arg(long, hide_short_help = true)]
    pub(crate) finalizer_at_birth: bool,
    /// Image of the agent; default: that of this version, or what was chosen before
    #[arg(long, value_name = "IMAGE", hide_short_help = true)]
    pub(crate) konnector_image: Option<String>,
    /// Seconds to wait for the agent, and then for the API
    #[arg(long, value_name = "SECONDS", default_value_t = 30, hide_short_help = true)]
    pub(crate) wait: u64,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DocumentFormat {
    Yaml,
    Json,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListFormat {
    Table,
    Yaml,
    Json,
    Name,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Log in at a provider and keep the token
    Login {
        /// The provider's URL
        url: String,
        /// Print the URL instead of opening a browser
        #[arg(long)]
        skip_browser: bool,
        /// Give up when the browser has not come back after this many seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 300)]
        timeout: u64,
    },
    /// List what a provider offers
    Templates {
        #[command(flatten)]
        server: ServerArg,
        /// How to print it
        #[arg(short, long, value_enum, default_value = "table")]
        output: ListFormat,
    },
    /// List a provider's collections of offerings
    Collections {
        #[command(flatten)]
        server: ServerArg,
        /// How to print it
        #[arg(short, long, value_enum, default_value = "table")]
        output: ListFormat,
    },
    /// Print a kubeconfig for this cluster's contract at a provider (after a login)
    Kubeconfig {
        #[command(flatten)]
        server: ServerArg,
        /// Identity of the consumer cluster; default: the UID of its namespace kube-system
        #[arg(long)]
        cluster_identity: Option<String>,
    },
    /// Bind from a reviewed request instead of a browser
    Apiservice(ApiserviceArgs),
    /// Show bindings and the agent
    Status {
        /// Only this binding
        name: Option<String>,
    },
    /// Show, accept or reject the permission claims of a binding
    Claims {
        #[command(subcommand)]
        action: ClaimsAction,
    },
    /// Take a binding back
    Unbind {
        /// The binding
        name: String,
        /// Delete the objects of its kinds too, properly, on both sides
        #[arg(long, conflicts_with = "orphan")]
        delete_objects: bool,
        /// Leave the objects and claimed copies where they are, on both sides, no longer synced
        #[arg(long)]
        orphan: bool,
        /// Give up waiting after this many seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 120)]
        timeout: u64,
    },
    /// Print the identity of the consumer cluster: the UID of its namespace kube-system
    ClusterIdentity,
    /// Print the manifests that install the agent, for kubectl apply
    Konnector(KonnectorArgs),
    /// For providers: see and change what is offered and who uses it
    Provider {
        #[command(subcommand)]
        action: ProviderAction,
    },
}

/// What is printed about the agent.
#[derive(Args, Debug)]
pub(crate) struct KonnectorArgs {
    /// Without the Deployment, to run the program konnector yourself
    #[arg(long)]
    pub(crate) without_deployment: bool,
    /// Without the admission policies, for API servers older than Kubernetes 1.30
    #[arg(long)]
    pub(crate) without_policies: bool,
    /// Image of the agent
    #[arg(long, value_name = "IMAGE")]
    pub(crate) konnector_image: Option<String>,
    /// Print a kubeconfig of the agent's ServiceAccount instead, for the program konnector outside of the cluster
    #[arg(long, conflicts_with_all = ["without_deployment", "without_policies", "konnector_image"])]
    pub(crate) print_kubeconfig: bool,
}

/// A provider by URL, else the one of the last login.
#[derive(Args, Debug)]
pub(crate) struct ServerArg {
    /// The provider's URL; default: that of the last login
    pub(crate) url: Option<String>,
    /// The same, as a flag
    #[arg(long, conflicts_with = "url")]
    pub(crate) server: Option<String>,
}

impl ServerArg {
    pub(crate) fn url(&self) -> Option<&str> {
        self.url.as_deref().or(self.server.as_deref())
    }
}

#[derive(Args, Debug)]
pub(crate) struct ApiserviceArgs {
    /// URL (https) of a manifest with APIServiceExportRequests, or the name for the binding
    pub(crate) url_or_name: Option<String>,
    /// File with APIServiceExportRequests, or - for standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<String>,
    /// Name of the binding; default: that of the request
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Ask the provider of the last login for this offering instead of reading a file
    #[arg(long, conflicts_with = "file")]
    pub(crate) template_name: Option<String>,
    /// File with the kubeconfig of the contract at the provider
    #[arg(long, value_name = "FILE")]
    pub(crate) remote_kubeconfig: Option<PathBuf>,
    /// Namespace of a Secret in the consumer cluster with that kubeconfig
    #[arg(long, value_name = "NAMESPACE", requires = "remote_kubeconfig_name")]
    pub(crate) remote_kubeconfig_namespace: Option<String>,
    /// Name of that Secret
    #[arg(long, value_name = "NAME", requires = "remote_kubeconfig_namespace", conflicts_with = "remote_kubeconfig")]
    pub(crate) remote_kubeconfig_name: Option<String>,
    /// Contract namespace at the provider; default: that of the kubeconfig's context
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) remote_namespace: Option<String>,
    #[command(flatten)]
    pub(crate) consent: ConsentArgs,
    #[command(flatten)]
    pub(crate) dry_run: DryRun,
    #[command(flatten)]
    pub(crate) agent: AgentArgs,
    /// Identity of the consumer cluster; default: the UID of its namespace kube-system
    #[arg(long, hide_short_help = true)]
    pub(crate) cluster_identity: Option<String>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum ClaimsAction {
    /// Show the claims of a binding
    List {
        /// The binding
        binding: String,
    },
    /// Accept claims
    Accept(ClaimsArgs),
    /// Reject claims: the copies made under them go
    Reject(ClaimsArgs),
}

#[derive(Args, Debug)]
pub(crate) struct ClaimsArgs {
    /// The binding
    pub(crate) binding: String,
    /// Numbers of claims, as `claims list` shows them; default: all
    pub(crate) numbers: Vec<usize>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum ProviderAction {
    /// Who has bound what
    Exports,
    /// Who the consumers are, and how alive
    Consumers,
    /// Cut one consumer off: its credential stops
    Revoke {
        /// The contract namespace, as `provider consumers` shows it
        contract: String,
        /// Delete the consumer's objects at the provider too
        #[arg(long)]
        delete_objects: bool,
    },
    /// Offer a CRD: label it and grant it to the backend
    Offer {
        /// Name of the CustomResourceDefinition
        crd: String,
        /// Let several consumers have a cluster-scoped kind, though RBAC cannot keep them apart
        #[arg(long)]
        shared: bool,
    },
}
