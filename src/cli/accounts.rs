//! `crashkeep user` and `crashkeep token`: accounts of a data directory that no server has open.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Subcommand;

use super::Common;
use crate::access::accounts::{self, NewToken};
use crate::appliance;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::rights::{Role, Scope};
use crate::store::Store;
use crate::store::accounts::AccountChange;

#[derive(clap::Args)]
pub struct UserArgs {
    #[command(subcommand)]
    command: UserCommand,
}

#[derive(Subcommand)]
enum UserCommand {
    /// Add an account, or give a known one another role
    Add {
        name: String,
        /// viewer, protected or admin
        #[arg(long, value_name = "ROLE")]
        role: String,
    },
    /// Remove an account with its tokens and saved searches
    Remove { name: String },
    /// Print the accounts: name, role, when it was made
    List,
}

#[derive(clap::Args)]
pub struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Subcommand)]
enum TokenCommand {
    /// Make a token and print its secret, which is kept nowhere
    Create {
        #[arg(long, value_name = "NAME")]
        user: String,
        /// submit, symbols:write, read, read:protected, reprocess, admin; all of the user's if missing
        #[arg(long, value_name = "A,B", default_value = "")]
        scopes: String,
        /// What it is for
        #[arg(long, value_name = "TEXT", default_value = "")]
        label: String,
        /// Days until it ends; never if missing
        #[arg(long, value_name = "N")]
        days: Option<u32>,
    },
    /// End a token, by its number in the list
    Revoke { id: u64 },
    /// Print the tokens: number, user, scopes, when it ends, label
    List,
}

pub(super) fn user(args: UserArgs, common: &Common) -> anyhow::Result<ExitCode> {
    with_store(common, |store, now| {
        match &args.command {
            UserCommand::Add { name, role } => {
                let Some(role) = Role::by_name(role) else {
                    let known = Role::ALL.map(Role::name).join(", ");
                    bail!("{role:?} is no role; known: {known}");
                };
                let is_new = accounts::put_user(store, name, role, now)?;
                let done = if is_new { "added" } else { "changed" };
                println!("{done} {name}, {}", role.name());
                if is_new {
                    eprintln!("make a token for it: crashkeep token create --user {name}");
                }
            }
            UserCommand::Remove { name } => {
                accounts::remove_user(store, name)?;
                println!("removed {name}");
            }
            UserCommand::List => {
                for user in store.users()? {
                    let made = Timestamp::from_ms(user.created_at_ms);
                    println!("{:<24} {:<10} {made}", user.name, user.role().name());
                }
            }
        }
        Ok(())
    })
}

pub(super) fn token(args: TokenArgs, common: &Common) -> anyhow::Result<ExitCode> {
    with_store(common, |store, now| {
        match &args.command {
            TokenCommand::Create {
                user,
                scopes,
                label,
                days,
            } => {
                let scopes: Vec<Scope> = accounts::scopes(scopes)?;
                let new = NewToken {
                    user,
                    scopes,
                    label,
                    days: *days,
                };
                println!("{}", accounts::create_token(store, &new, now)?);
            }
            TokenCommand::Revoke { id } => {
                if !store.tokens(None)?.iter().any(|(known, _)| known == id) {
                    bail!("there is no token {id}; `crashkeep token list` prints them");
                }
                store.change_accounts(vec![AccountChange::RemoveKey(*id)])?;
                println!("revoked {id}");
            }
            TokenCommand::List => {
                for (id, token) in store.tokens(None)? {
                    let ends = token
                        .expires_at_ms
                        .map_or("never".to_owned(), |at| Timestamp::from_ms(at).to_string());
                    let rights = token.rights().to_string();
                    println!(
                        "{id:>6} {:<24} {rights:<32} {ends:<24} {}",
                        token.user, token.label
                    );
                }
            }
        }
        Ok(())
    })
}

fn with_store(
    common: &Common,
    act: impl FnOnce(&Store, Timestamp) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    let config = common.config()?;
    let opened = appliance::store_alone(&config, &common.data).context(
        "accounts cannot be reached; while a server has them open, use its page /users/",
    )?;
    act(&opened.store, SystemClock.now())?;
    opened.store.close();
    Ok(ExitCode::SUCCESS)
}
