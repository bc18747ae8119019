package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"time"
)

// lines are the connections of a pass. They are made before its time is taken, and kept.
type lines struct {
	conns      []net.Conn
	own        bool // each request has one of its own; else each caller has
	handshakes int64
}

// connect makes the connections of a pass. Where TLS is spoken every handshake is a whole one, and has ended on both sides when
// connect returns.
func connect(ctx context.Context, at target, requests []prepared, p pass) (_ *lines, err error) {
	l := &lines{own: requests[0].certificate != nil}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	most := p.connections
	if l.own {
		most = len(requests)
	}
	for n := range most {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", at.address)
		if err != nil {
			return l, err
		}
		l.conns = append(l.conns, conn)
		if at.roots == nil {
			continue
		}
		if err := conn.SetDeadline(time.Now().Add(grace)); err != nil {
			return l, err
		}
		var shown *tls.Certificate
		if l.own {
			shown = requests[n].certificate
		}
		if l.conns[n], err = handshake(ctx, conn, at, shown); err != nil {
			return l, err
		}
		l.handshakes++
	}
	return l, nil
}

// handshake speaks TLS on a connection, and HTTP/1.1 over it. A server looks at the client's certificate when the client's part
// of a TLS 1.3 handshake is over: an answer tells that it has.
func handshake(ctx context.Context, conn net.Conn, at target, shown *tls.Certificate) (net.Conn, error) {
	host, _, err := net.SplitHostPort(at.address)
	if err != nil {
		return conn, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: at.roots, ServerName: host}
	if shown != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return shown, nil }
	}
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		return conn, err
	}
	status, body, err := exchange(secured, []byte("GET /readyz HTTP/1.1\r\nHost: "+at.address+"\r\n\r\n"), make([]byte, maxAnswer))
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("/readyz: status %d: %.300s", status, body)
	}
	return secured, err
}

// of is the connection of a caller's request.
func (l *lines) of(caller, request int) net.Conn {
	if l.own {
		return l.conns[request]
	}
	return l.conns[caller]
}

func (l *lines) deadline(t time.Time) error {
	for _, conn := range l.conns {
		if err := conn.SetDeadline(t); err != nil {
			return err
		}
	}
	return nil
}

func (l *lines) close() {
	for _, conn := range l.conns {
		_ = conn.Close()
	}
}
