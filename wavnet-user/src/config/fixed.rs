//! What cannot change while the agent runs, because maps, files, sockets or attachments were made by it.

use super::types::Config;

macro_rules! fixed {
    ($($key:literal => $($field:ident).+;)+) => {
        impl Config {
            /// Keys that a reload cannot apply.
            pub const FIXED: &[&str] = &[$($key),+];

            /// Those of [`Config::FIXED`] that differ in `new`.
            pub fn needs_restart(&self, new: &Config) -> Vec<&'static str> {
                let mut keys = Vec::new();
                $(if self.$($field).+ != new.$($field).+ {
                    keys.push($key);
                })+
                keys
            }

            /// What is in force when an agent that runs with `running` has taken this configuration over: of
            /// [`Config::FIXED`] it keeps what it has.
            pub fn taken_over_by(mut self, running: &Config) -> Config {
                $(self.$($field).+.clone_from(&running.$($field).+);)+
                self
            }
        }
    };
}

fixed! {
    "agent.name" => agent.name;
    "agent.bpffs" => agent.bpffs;
    "agent.run_dir" => agent.run_dir;
    "agent.socket_mode" => agent.socket_mode;
    "agent.socket_group" => agent.socket_group;
    "log.level" => log.level;
    "log.format" => log.format;
    "metrics.listen" => metrics.listen;
    "metrics.program_run_time" => metrics.program_run_time;
    "underlay.tc" => underlay.tc;
    "fdb.entries" => fdb.buckets;
    "limits.ports" => limits.ports;
    "limits.vnis" => limits.vnis;
    "limits.peers" => limits.peers;
}
