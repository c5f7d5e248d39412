//! Names that several rooms share: annotations, labels, finalizers, field managers, condition types.

/// API group of the metal kinds.
pub const METAL_GROUP: &str = "metal.ironcore.dev";
/// API group of Corten's own kinds.
pub const CORTEN_GROUP: &str = "corten.dev";

// Annotations of the original.

/// Asks for one operation on a Server or BMC, or for being left alone (`ignore`). Consumed once.
pub const OPERATION: &str = "metal.ironcore.dev/operation";
/// Marks a parked server (`true`).
pub const PARKED: &str = "metal.ironcore.dev/parked";
/// Why a ServerMaintenance was made, for people.
pub const REASON: &str = "metal.ironcore.dev/reason";

/// [`OPERATION`]: nothing is done to this object until the annotation goes.
pub const OPERATION_IGNORE: &str = "ignore";
/// [`OPERATION`]: the operating system is asked to restart.
pub const OPERATION_GRACEFUL_RESTART_SERVER: &str = "graceful-restart-server";
/// [`OPERATION`]: the machine is restarted without asking.
pub const OPERATION_HARD_RESTART_SERVER: &str = "hard-restart-server";
/// [`OPERATION`]: power is cut and switched on again.
pub const OPERATION_POWER_CYCLE_SERVER: &str = "power-cycle-server";
/// [`OPERATION`]: power is cut.
pub const OPERATION_FORCE_OFF_SERVER: &str = "force-off-server";
/// [`OPERATION`]: power is switched on.
pub const OPERATION_FORCE_ON_SERVER: &str = "force-on-server";
/// [`OPERATION`] on a BMC: the BMC restarts, the machine runs on.
pub const OPERATION_GRACEFUL_RESTART_BMC: &str = "graceful-restart-bmc";
/// [`OPERATION`]: the server is switched off and left alone until it is unparked.
pub const OPERATION_PARK: &str = "park";
/// [`OPERATION`]: ends [`OPERATION_PARK`].
pub const OPERATION_UNPARK: &str = "unpark";
/// [`OPERATION`] on a BMCUser: its password is changed now.
pub const OPERATION_ROTATE_CREDENTIALS: &str = "rotate-credentials";

// Annotations of ours on Server. What safety rests on is here, never in the status alone.

/// UID of the claim that the server is bound to.
pub const CLAIM_UID: &str = "corten.dev/claim-uid";
/// UID of the claim since which the disks hold a tenant's data; stays until they are verified clean.
pub const DIRTY: &str = "corten.dev/dirty";
/// Serial numbers of the drives that the machine had before the claim, a JSON array; a restore or a move brings it along, unlike the ServerInventory.
pub const DRIVES: &str = "corten.dev/drives";
/// UID of the claim whose release has begun, after a live read of the claim with a deletion time.
pub const RELEASE: &str = "corten.dev/release";
/// UID of the claim for which the image was booted or installed.
pub const PROVISIONED: &str = "corten.dev/provisioned";
/// The machine's identity as seen at onboarding: `<system UUID>/<serial number>`.
pub const IDENTITY: &str = "corten.dev/identity";
/// A person's word that a machine found running may be taken over: [`HANDOVER_ACCEPTED`].
pub const HANDOVER: &str = "corten.dev/handover";
/// [`HANDOVER`]: taken over.
pub const HANDOVER_ACCEPTED: &str = "accepted";
/// [`HANDOVER`]: a person is awaited.
pub const HANDOVER_AWAITED: &str = "awaited";
/// A person's answer to a Hold: [`HOLD_RELEASE`], or [`HOLD_ADOPT_PREFIX`] and a claim's UID.
pub const HOLD: &str = "corten.dev/hold";
/// [`HOLD`]: the server is taken from whatever claim it had, and cleaned.
pub const HOLD_RELEASE: &str = "release";
/// [`HOLD`]: the server goes to the claim with the UID that follows, as it is.
pub const HOLD_ADOPT_PREFIX: &str = "adopt:";
/// Signs off a cleaning that cannot be proved: the name of the person who answers for it.
pub const CLEANED_BY: &str = "corten.dev/cleaned-by";
/// The cleaning that is due: `<server UID>/<occasion>`. Written by the engine only.
pub const CLEANING: &str = "corten.dev/cleaning";
/// UID of the Server object for which the safety annotations were written; a restored or moved object has another.
pub const SERVER_UID: &str = "corten.dev/server-uid";
/// Lets a Server or BMC go although it is Reserved or dirty; a tombstone stays. Any value.
pub const FORCE_DELETE: &str = "corten.dev/force-delete";
/// On a claim: its owner's consent to operations on the server.
pub const ALLOW_OPERATIONS: &str = "corten.dev/allow-operations";
/// Who overrides the missing consent of a Reserved server's claim.
pub const OPERATION_ACTOR: &str = "corten.dev/operation-actor";

// Annotations of ours on other kinds.

/// On a BMC: `sha256:` and the hexadecimal digest of the leaf certificate's DER.
pub const TLS_PIN: &str = "corten.dev/tls-pin";
/// On a BMC: no login before this time (RFC 3339).
pub const NEXT_LOGIN_ATTEMPT: &str = "corten.dev/next-login-attempt";
/// On a BMC: version of the Secret that the last login was tried with.
pub const LOGIN_SECRET: &str = "corten.dev/login-secret";
/// On a BMC: when the restart that an annotation asked for was about to be sent (RFC 3339); goes when its outcome is known.
pub const BMC_RESTART_INTENT: &str = "corten.dev/bmc-restart-intent";
/// Annotation on a claim: name and UID of the server that was chosen for it, as `name/uid`, written with our finalizer and by the claim's
/// resourceVersion before the server is touched.
///
/// Two allocators that both think they act (a lease lost in mid-flight) so agree on one server: the second one's choice is a conflict, and
/// a choice that is written is kept as long as its server fits. Without it each could bind another server to the same claim.
pub const CHOSEN_SERVER: &str = "corten.dev/chosen-server";
/// Annotation on a claim: name and UID of the server that it was bound to, as `name/uid`.
///
/// It tells a claim that had a server from one that has yet to get one, when no server knows of it: after a Server was deleted by force
/// or came back from a backup without its annotations. Such a claim is not bound anew without being asked, since that would boot its
/// image again.
pub const BOUND_SERVER: &str = "corten.dev/bound-server";
/// On a ServerClaim and its ServerBootConfiguration: [`BOOT_MODE_DISKLESS`] or [`BOOT_MODE_DISK`].
pub const BOOT_MODE: &str = "corten.dev/boot-mode";
/// [`BOOT_MODE`]: every start boots the image from the network.
pub const BOOT_MODE_DISKLESS: &str = "diskless";
/// [`BOOT_MODE`]: the image is installed once, every later start boots the disk.
pub const BOOT_MODE_DISK: &str = "disk";
/// On a Server, ServerClaim or ServerBootConfiguration: how the machine is to boot: `HttpBootUri`, `VirtualMedia`, `UefiHttp` or
/// `Network`.
pub const BOOT_METHOD: &str = "corten.dev/boot-method";
/// On a ServerBootConfiguration: digest of what its image was resolved to.
pub const IMAGE_DIGEST: &str = "corten.dev/image-digest";
/// On a ServerBootConfiguration: the `spec.image` that was resolved to [`IMAGE_DIGEST`].
pub const IMAGE_REFERENCE: &str = "corten.dev/image-reference";
/// On a ServerBootConfiguration: what its image turned out to be: [`IMAGE_KIND_DISK`] or [`IMAGE_KIND_BOOT`].
pub const IMAGE_KIND: &str = "corten.dev/image-kind";
/// [`IMAGE_KIND`]: an image of a disk, which is written to one.
pub const IMAGE_KIND_DISK: &str = "disk";
/// [`IMAGE_KIND`]: something that is booted as it is.
pub const IMAGE_KIND_BOOT: &str = "boot";
/// On a ServerClaim and its ServerBootConfiguration: name of the Secret (`kubernetes.io/dockerconfigjson`, in the same namespace) with the logins of
/// the image's registry.
pub const IMAGE_PULL_SECRET: &str = "corten.dev/image-pull-secret";
/// On a ServerClaim and its ServerBootConfiguration: SHA-256 (64 hexadecimal digits) that the file at the image's URL must have.
pub const IMAGE_SHA256: &str = "corten.dev/image-sha256";
/// Condition of a ServerBootConfiguration: how the machine is booted for it; its reason is the method.
pub const CONDITION_BOOT_METHOD: &str = "BootMethod";
/// Condition of a ServerBootConfiguration: Unknown where nothing tells the image of the claim's ignition or user data; not there otherwise.
pub const CONDITION_DATA_FOUND: &str = "UserDataFound";
/// On a ServerClaim or Server: which disk an image is written to, as JSON with the usual root-device hints.
pub const ROOT_DEVICE_HINTS: &str = "corten.dev/root-device-hints";
/// On a ServerInventory: digest of its content, so that a watch of metadata is enough.
pub const CONTENT_HASH: &str = "corten.dev/content-hash";
/// On a ServerRun: what made it due; the same as `spec.occasion`.
pub const OCCASION: &str = "corten.dev/occasion";
/// On the shard's Lease or a ServerPolicy: somebody has looked at the brake (RFC 3339: when).
pub const BRAKE_ACKNOWLEDGED: &str = "corten.dev/brake-acknowledged";
/// On the shard's Lease: since when (RFC 3339) and why the brake is on for a reason that no ServerRun records.
pub const BRAKE_ENGAGED: &str = "corten.dev/brake-engaged";
/// On the Lease of an engine: the label selector of what it looks after.
pub const SELECTOR: &str = "corten.dev/selector";
/// On a BMC: before this time (RFC 3339) even a changed Secret buys no further login.
pub const NEXT_LOGIN_EXCEPTION: &str = "corten.dev/next-login-exception";

// Labels.

/// The shard whose engine looks after the object; copied from BMC to Server.
pub const AGENT: &str = "corten.dev/agent";
/// Who looks after the object.
pub const MANAGED_BY: &str = "corten.dev/managed-by";
/// On a ServerRun and a ServerInventory: name of the Server.
pub const SERVER_LABEL: &str = "corten.dev/server";
/// On a ServerRun: its kind.
pub const RUN_KIND_LABEL: &str = "corten.dev/run-kind";

// Finalizers.

/// Holds an Endpoint until what came of it is settled.
pub const FINALIZER_ENDPOINT: &str = "metal.ironcore.dev/endpoint";
/// Holds a BMC until its sessions and subscriptions are closed and its servers let it go.
pub const FINALIZER_BMC: &str = "metal.ironcore.dev/bmc";
/// Holds a Server while it is Reserved or dirty.
pub const FINALIZER_SERVER: &str = "metal.ironcore.dev/server";
/// Holds a claim until its server is confirmed off.
pub const FINALIZER_SERVER_CLAIM: &str = "metal.ironcore.dev/serverclaim";

// Field managers.

/// Field manager of the engine.
pub const MANAGER_ENGINE: &str = "corten-engine";
/// Field manager of what probes and booted systems say.
pub const MANAGER_PROBE: &str = "corten-probe";
/// Field manager of the allocator.
pub const MANAGER_CLAIMS: &str = "corten-claims";

// Condition types.

/// The object does what it is for. On BMC: the BMC answers and lets us in.
pub const CONDITION_READY: &str = "Ready";
/// Server: each required section of the inventory was read or recorded as unsupported.
pub const CONDITION_DISCOVERED: &str = "Discovered";
/// Server: it runs although nothing of ours asked for it; left alone.
pub const CONDITION_RUNNING_UNEXPECTEDLY: &str = "RunningUnexpectedly";
/// Server: a person has to decide before anything is done to it.
pub const CONDITION_HELD: &str = "Held";
/// Server: another machine stands in its place, or two servers claim one identity.
pub const CONDITION_IDENTITY_DISPUTED: &str = "IdentityDisputed";
/// Condition of a BMC whose Endpoint does not exist.
pub const CONDITION_ENDPOINT_MISSING: &str = "EndpointMissing";
/// Server: each drive is erased and verified, or why not.
pub const CONDITION_ERASED: &str = "Erased";
/// Server: the machine is confirmed off for the release that is under way.
pub const CONDITION_POWERED_OFF: &str = "PoweredOff";
/// ServerRun: it did what it is for, or why not.
pub const CONDITION_SUCCEEDED: &str = "Succeeded";
/// ServerClaim: it has a server, or why not.
pub const CONDITION_BOUND: &str = "Bound";
/// ServerClaim: its server is being given back, and what that waits for.
pub const CONDITION_RELEASED: &str = "Released";
/// ServerBootConfiguration: the image reference can be booted.
pub const CONDITION_IMAGE_VALIDATION: &str = "ImageValidation";

// Credentials.

/// Key of the user name in a BMCSecret or Secret.
pub const SECRET_USERNAME: &str = "username";
/// Key of the password in a BMCSecret or Secret.
pub const SECRET_PASSWORD: &str = "password";
/// Key of the CA certificates (PEM) in a BMCSecret or Secret, for the BMC's certificate.
pub const SECRET_CA: &str = "ca.crt";
