//! The file's types to the model: defaults, bounds, and the rules that hold between fields.
//! Goes on after an error wherever it can, so that one run shows them all.

mod backend_tls;
mod client_validation;
mod context;
mod identity;
mod listener;
mod not_yet;
mod process;
mod resolver;
mod seen;
mod tcp;
mod tenant;
mod tls;
mod unique;

use std::sync::Arc;

use self::context::Context;
use crate::field::Field;
use crate::file::ConfigFile;
use crate::model::Config;
use crate::report::{Path, Report};

/// The model of a file, if nothing in it is wrong.
pub(crate) fn config(field: &Field<ConfigFile>, report: &Report) -> Option<Config> {
    let context = Context { path: &Path::Root, at: field.at(), report };
    if field.is_missing() {
        context.report.error(context.at, context.path, "the file is empty: it needs `listeners` and `tenants`");
    }
    let file = field.value()?;

    let runtime_dir = process::runtime_dir(&context, file);
    let state_dir = process::state_dir(file);
    let workers = process::workers(&context, file);
    let user = process::user(file);
    let data_path = process::data_path(file);
    let sandbox = process::sandbox(&context, file);
    let resolver = resolver::resolver(&context, file);
    let admin = process::admin(&context, file);
    let access_log = process::access_log(&context, file);
    let uid_range = identity::uid_range(&context, file);

    let names = unique::tenant_names(&context, file);
    unique::hostnames(&context, file);
    unique::listeners(&context, file);
    unique::steered(&context, file);
    let identities = identity::identities(&context, file, uid_range);
    let listeners = listener::listeners(&context, file, &names);
    let tenants = tenant::tenants(&context, file, &identities);

    let runtime_dir = runtime_dir?;
    let config = Config {
        state_dir: state_dir?.unwrap_or_else(|| runtime_dir.clone()),
        runtime_dir,
        workers: workers?,
        user: user?,
        uid_range: uid_range?,
        data_path: data_path?,
        sandbox_policy: sandbox?,
        resolver: resolver?,
        admin: admin?,
        access_log: access_log?,
        listeners: listeners?,
        tenants: tenants?.into_iter().map(Arc::new).collect(),
    };
    identity::of_the_prober(&context, file, &config)?;
    Some(config)
}
