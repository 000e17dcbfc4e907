//! Reloads: configuration, keys and lists are read again, and what can change at run time does.

use std::sync::Arc;

use tracing::{error, info, warn};

use super::{
    Shell,
    core::{self, Order},
    view::Facts,
};
use crate::{
    api::{ErrorCode, Refusal, model::Done},
    config::{
        ConfigError, Exposed, RendezvousConfig,
        key_files::{self, ServerFiles},
    },
};

impl Shell {
    /// Reads everything again and takes what has changed; what is wrong changes nothing.
    pub(super) fn reload(&mut self) -> Result<Done, Refusal> {
        self.notifier.reloading();
        let done = self.take();
        match &done {
            Ok(done) => {
                self.reloads.0 += 1;
                done.changes.iter().for_each(|change| info!("reload: {change}"));
                done.warnings.iter().for_each(|warning| warn!("reload: {warning}"));
            }
            Err(refusal) => {
                self.reloads.1 += 1;
                error!("the configuration in force stays: {refusal}");
            }
        }
        self.notifier.ready();
        done
    }

    fn take(&mut self) -> Result<Done, Refusal> {
        let invalid = |e: &dyn std::fmt::Display| Refusal::new(ErrorCode::Invalid, e.to_string());
        let config = self.source.load().map_err(|e| match &e {
            ConfigError::Invalid(errors) => Refusal { errors: errors.problems(), ..invalid(&e) },
            ConfigError::Read { .. } => invalid(&format!("{:#}", anyhow::Error::from(e))),
        })?;
        let ServerFiles { secret, networks, exposed } = key_files::of_server(&config).map_err(|e| {
            let help = e.help();
            invalid(&format!("{:#}", anyhow::Error::from(e))).with_help(help)
        })?;
        let running = &self.facts.config;
        let mut fixed = running.needs_restart(&config);
        // The same file may have another one by now.
        fixed.extend((secret.public() != self.facts.key).then_some("key"));
        let mut warnings: Vec<String> =
            fixed.iter().map(|key| format!("{key} has changed: a restart of the server is needed")).collect();
        match &self.kernel {
            Ok(relay) => warnings.extend(relay.shortfall(&config.limits)),
            Err(_) if running.relays_without_kernel(&config) => {
                warnings.push("the server relays, not the kernel, until it is started again".into());
            }
            Err(_) => {}
        }
        warnings.extend(exposed.iter().map(Exposed::warning));
        let mut changes = vec![format!("networks and lists are in force: {} served", networks.len())];
        if config.limits != running.limits {
            changes.push("limits: changed".into());
        }
        if (config.relay, config.lease) != (running.relay, running.lease) {
            changes.push("relay and lease: changed".into());
        }
        let settings = super::settings(&config, networks, &self.stun);
        if !core::order(&self.orders, &self.wake, Order::Configure(Box::new(settings))) {
            return Err(Refusal::new(ErrorCode::Failed, "the server's core has failed"));
        }
        let RendezvousConfig { relay, lease, limits, networks, .. } = config;
        self.sources.limit(limits.stun_of_source);
        let config = RendezvousConfig { relay, lease, limits, networks, ..running.clone() };
        self.facts = Arc::new(Facts { config, ..Facts::clone(&self.facts) });
        self.exposed = exposed;
        Ok(Done { changes, warnings })
    }
}
