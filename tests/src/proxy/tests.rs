//! The proxy does what it says: else the tests that stand on it show nothing.

use std::{
    io::{ErrorKind, Read, Write},
    net::{self, Shutdown},
    time::Instant,
};

use super::*;

/// A connection through a proxy: both ends.
fn connect(proxy: &Proxy, listener: &net::TcpListener) -> (net::TcpStream, net::TcpStream) {
    let client = net::TcpStream::connect(proxy.address).unwrap();
    let (server, _) = listener.accept().unwrap();
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    }
    (client, server)
}

fn proxy() -> (Proxy, net::TcpListener) {
    let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
    (Proxy::start(listener.local_addr().unwrap(), 1), listener)
}

#[test]
fn a_connection_ends_after_the_very_octet_and_in_the_way_that_was_asked_for() {
    let (proxy, listener) = proxy();
    for after in [1, 2, 1_459, 1_460, 1_461, 5_000] {
        for how in [End::Close, End::Reset, End::Half] {
            proxy.cut([Cut { way: Way::Down, after, how }]);
            let (mut client, mut server) = connect(&proxy, &listener);
            server.write_all(&vec![7; 9_000]).unwrap();
            let mut got = Vec::new();
            let read = client.read_to_end(&mut got);
            match how {
                // What was on its way may be lost with it.
                End::Reset => assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset),
                _ => assert_eq!(read.unwrap() as u64, after),
            }
            assert!(got.len() as u64 <= after);
            if how == End::Half {
                client.write_all(b"on").unwrap();
                client.shutdown(Shutdown::Write).unwrap();
                let mut up = String::new();
                server.read_to_string(&mut up).unwrap();
                assert_eq!(up, "on", "the other direction goes on");
            }
        }
    }
    assert_eq!(proxy.cuts_left(), 0);
}

#[test]
fn the_weather_delays_narrows_holds_and_turns() {
    let (proxy, listener) = proxy();
    let (mut client, mut server) = connect(&proxy, &listener);
    let mut send = |octets: usize| {
        let begin = Instant::now();
        client.write_all(&vec![0; octets]).unwrap();
        let mut got = vec![1; octets];
        server.read_exact(&mut got).unwrap();
        (begin.elapsed(), got)
    };
    assert!(send(10).0 < Duration::from_millis(500));
    let delay = Duration::from_millis(150);
    proxy.set(Way::Up, Weather { delay, ..Weather::default() });
    assert!(send(10).0 >= delay);
    proxy.set(Way::Up, Weather { rate: Some(20_000), ..Weather::default() });
    assert!(send(10_000).0 >= Duration::from_millis(480));
    proxy.set(Way::Up, Weather { lost: 100, ..Weather::default() });
    assert!(send(10).0 >= Duration::from_millis(200));
    proxy.set(Way::Up, Weather { turned: Some(100), ..Weather::default() });
    let turned = send(20_000).1.iter().filter(|octet| **octet != 0).count() as u64;
    assert!((100..400).contains(&turned) && turned == proxy.turned(), "{turned}");
    proxy.set(Way::Up, Weather { hold: true, ..Weather::default() });
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(300));
            proxy.set(Way::Up, Weather::default());
        });
        assert!(send(10).0 >= Duration::from_millis(290), "and then it comes");
    });
    proxy.break_all();
    assert!(client.read(&mut [0]).is_err());
}
