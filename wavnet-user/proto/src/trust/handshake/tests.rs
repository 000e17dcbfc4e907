use curve25519_dalek::MontgomeryPoint;
use snow::{
    Builder, Error,
    params::{CipherChoice, DHChoice, HashChoice},
    resolvers::{CryptoResolver, DefaultResolver},
    types::{Cipher, Dh, Hash, Random},
};
use zeroize::Zeroizing;

use super::*;
use crate::{
    rng::Rng,
    time::Time,
    trust::{NetworkKey, SecretKey, noise},
    wire::{self, COOKIE_LEN, Datagram, Init, Response},
};

struct World {
    rng: Rng,
    ours: SecretKey,
    theirs: SecretKey,
    member: MemberKey,
}

impl World {
    fn new() -> World {
        let mut rng = Rng::from_seed([90; 32]);
        let (ours, theirs) = (SecretKey::generate(&mut rng), SecretKey::generate(&mut rng));
        World { ours, theirs, member: NetworkKey::generate(&mut rng).member(), rng }
    }

    /// INIT with this Noise message and a right MAC, as any member of the network can make one.
    fn init(&self, index: u32, message: &[u8]) -> Vec<u8> {
        self.member.0.mac.finish(wire::init(index, self.member.network(), &[0; COOKIE_LEN], message))
    }

    fn read(&mut self, datagram: &[u8], with: &MemberKey) -> Result<Request, HandshakeError> {
        Responder::new(&self.theirs, Psk::Member(with)).read_forwarded_init(
            self.ours.public(),
            &init(datagram),
            &mut self.rng,
        )
    }
}

fn init(datagram: &[u8]) -> Init<'_> {
    match Datagram::parse(datagram) {
        Ok((_, Datagram::Init(init))) => init,
        other => panic!("{other:?}"),
    }
}

fn response(datagram: &[u8]) -> Response<'_> {
    match Datagram::parse(datagram) {
        Ok((_, Datagram::Response(response))) => response,
        other => panic!("{other:?}"),
    }
}

/// The MAC is right on both sides, and the pre-shared key is another one: it is mixed in with RESPONSE.
#[test]
fn another_pre_shared_key_is_noticed_by_the_initiator() {
    let mut world = World::new();
    let mut other = world.member.clone();
    other.0.psk = Zeroizing::new(world.rng.bytes());
    let mut initiation = Initiation::start(&world.ours, Psk::Member(&world.member), 1, &mut world.rng);
    let datagram = initiation.init_without_cookie(world.theirs.public(), b"").unwrap();
    let request = world.read(&datagram, &other).unwrap();
    let (datagram, _) = request.respond(Time::ZERO, 2, b"").unwrap();
    let taken = initiation.handle_response(Time::ZERO, &response(&datagram));
    assert_eq!(taken.unwrap_err(), HandshakeError::Forged);
    // The one with the right key is taken still.
    let datagram = initiation.init_without_cookie(world.theirs.public(), b"").unwrap();
    let right = world.member.clone();
    let request = world.read(&datagram, &right).unwrap();
    let (datagram, _) = request.respond(Time::ZERO, 3, b"").unwrap();
    initiation.handle_response(Time::ZERO, &response(&datagram)).unwrap();
}

/// A member of the network on the way can make any MAC, and still not change whose index it is.
#[test]
fn the_initiators_index_is_part_of_the_handshake() {
    let mut world = World::new();
    let member = world.member.clone();
    let mut initiation = Initiation::start(&world.ours, Psk::Member(&member), 1, &mut world.rng);
    let datagram = initiation.init_without_cookie(world.theirs.public(), b"").unwrap();
    let changed = world.init(2, init(&datagram).noise);
    assert_eq!(world.read(&changed, &member).unwrap_err(), HandshakeError::Forged);
    let same = world.init(1, init(&datagram).noise);
    assert_eq!(same, datagram);
    world.read(&same, &member).unwrap();
}

/// What a handshake of another version or network has in its prologue.
#[test]
fn the_network_is_part_of_the_handshake() {
    let mut world = World::new();
    let member = world.member.clone();
    let mut other = member.clone();
    other.0.network = NetworkId::from_bytes([1; 8]);
    let mut state = noise::initiator(&world.ours, world.theirs.public(), &other.0, 1, &[0; 32]).unwrap();
    let mut message = [0; noise::FIRST_LEN];
    state.write_message(&[], &mut message).unwrap();
    let datagram = world.init(1, &message);
    assert_eq!(world.read(&datagram, &member).unwrap_err(), HandshakeError::Forged);
}

/// RESPONSE of a responder that leaves out its index.
#[test]
fn a_response_without_an_index_is_refused() {
    let mut world = World::new();
    let mut initiation = Initiation::start(&world.ours, Psk::Member(&world.member), 1, &mut world.rng);
    let datagram = initiation.init_without_cookie(world.theirs.public(), b"").unwrap();
    let mut state = noise::responder(&world.theirs, &world.member.0, 1, &[0; 32]).unwrap();
    let mut buffer = [0; 200];
    state.read_message(init(&datagram).noise, &mut buffer).unwrap();
    let len = state.write_message(&[1, 2, 3], &mut buffer).unwrap();
    let short = Response { receiver: 1, noise: &buffer[..len] };
    assert_eq!(initiation.handle_response(Time::ZERO, &short).unwrap_err(), HandshakeError::Forged);
    // It has ended: the responder is who it says, and speaks something else.
    assert_eq!(initiation.handle_response(Time::ZERO, &short).unwrap_err(), HandshakeError::State);
}

/// What is wrong with a member's X25519.
#[derive(Clone, Copy)]
enum Trick {
    /// Nothing.
    None,
    /// Its public keys have the bit set that RFC 7748 says to ignore.
    OtherForm,
    /// Its ephemeral key is of low order, so that what comes from it is zeros for both sides.
    LowOrder,
}

struct Tricky {
    trick: Trick,
    secret: [u8; 32],
    public: [u8; 32],
}

impl Dh for Tricky {
    fn name(&self) -> &'static str {
        "25519"
    }
    fn pub_len(&self) -> usize {
        32
    }
    fn priv_len(&self) -> usize {
        32
    }
    fn set(&mut self, secret: &[u8]) {
        self.secret.copy_from_slice(secret);
        self.public = MontgomeryPoint::mul_base_clamped(self.secret).to_bytes();
        if let Trick::OtherForm = self.trick {
            self.public[31] |= 0x80;
        }
    }
    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), Error> {
        let mut bytes = [0; 32];
        rng.try_fill_bytes(&mut bytes)?;
        self.set(&bytes);
        if let Trick::LowOrder = self.trick {
            self.public = [0; 32];
        }
        Ok(())
    }
    fn pubkey(&self) -> &[u8] {
        &self.public
    }
    fn privkey(&self) -> &[u8] {
        &self.secret
    }
    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let public = MontgomeryPoint(*public.first_chunk().unwrap());
        let shared = public.mul_clamped(self.secret).to_bytes();
        let weak = self.public == [0; 32];
        out[..32].copy_from_slice(if weak { &[0; 32] } else { &shared });
        Ok(())
    }
}

impl Random for Trick {
    fn try_fill_bytes(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        buffer.fill(5);
        Ok(())
    }
}

impl CryptoResolver for Trick {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(*self))
    }
    fn resolve_dh(&self, _: &DHChoice) -> Option<Box<dyn Dh>> {
        Some(Box::new(Tricky { trick: *self, secret: [0; 32], public: [0; 32] }))
    }
    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }
    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

/// A member that computes as it likes: who has one key cannot be two hosts by writing it in two ways, and nobody is to have a session whose
/// keys others can compute.
#[test]
fn tricks_with_curve_points_are_refused() {
    for (trick, expected) in [
        (Trick::None, None),
        (Trick::OtherForm, Some(HandshakeError::Key(KeyError::Weak))),
        (Trick::LowOrder, Some(HandshakeError::Forged)),
    ] {
        let mut world = World::new();
        let member = world.member.clone();
        let prologue = noise::prologue(&member.0, 1);
        let builder = Builder::with_resolver(noise::PATTERN.parse().unwrap(), Box::new(trick));
        let builder = builder.local_private_key(world.ours.as_bytes()).unwrap();
        let theirs = world.theirs.public();
        let builder = builder.remote_public_key(theirs.as_bytes()).unwrap();
        let builder = builder.psk(2, &member.0.psk).unwrap().prologue(&prologue).unwrap();
        let mut message = [0; noise::FIRST_LEN];
        builder.build_initiator().unwrap().write_message(&[], &mut message).unwrap();
        let datagram = world.init(1, &message);
        assert_eq!(world.read(&datagram, &member).err(), expected);
    }
}

/// Two hosts with one key file, of which one does not mind.
#[test]
fn a_host_does_not_answer_itself() {
    let mut world = World::new();
    world.ours = world.theirs.clone();
    let member = world.member.clone();
    let mut state = noise::initiator(&world.ours, world.theirs.public(), &member.0, 1, &[0; 32]).unwrap();
    let mut message = [0; noise::FIRST_LEN];
    state.write_message(&[], &mut message).unwrap();
    let datagram = world.init(1, &message);
    assert_eq!(world.read(&datagram, &member).unwrap_err(), HandshakeError::Ourselves);
}
