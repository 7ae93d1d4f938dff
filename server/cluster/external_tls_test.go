package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/sluicelog/sluice/internal/fault"
)

// authority signs certificates for a test.
type authority struct {
	tb   testing.TB
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	file string
}

func newAuthority(tb testing.TB) *authority {
	tb.Helper()
	a := &authority{tb: tb, dir: tb.TempDir()}
	var err error
	a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(tb, err)
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, a.key.Public(), a.key)
	require.NoError(tb, err)
	a.file = a.write("ca.pem", "CERTIFICATE", raw)
	return a
}

// write writes a PEM file and returns its path.
func (a *authority) write(name, kind string, raw []byte) string {
	a.tb.Helper()
	path := filepath.Join(a.dir, name)
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw})
	require.NoError(a.tb, os.WriteFile(path, text, 0o600))
	return path
}

// issue returns the files of a certificate for the loopback, for both sides.
func (a *authority) issue(name string) (cert, key string) {
	a.tb.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.tb, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, a.cert, private.Public(), a.key)
	require.NoError(a.tb, err)
	encoded, err := x509.MarshalECPrivateKey(private)
	require.NoError(a.tb, err)
	return a.write(name+".pem", "CERTIFICATE", raw), a.write(name+".key", "EC PRIVATE KEY", encoded)
}

// guarded runs an external etcd that takes TLS only, from callers with a certificate
// of the authority, and wants a password. The user sluice may use a prefix only.
func guarded(tb testing.TB, a *authority) (endpoint string) {
	tb.Helper()
	walSegment()
	log := etcdLogger(slog.New(slog.DiscardHandler), func(error) {})
	cfg, err := embeddedConfig(filepath.Join(tb.TempDir(), "etcd"), corruptionGates, log)
	require.NoError(tb, err)
	cfg.ListenClientUrls = []url.URL{{Scheme: "https", Host: "127.0.0.1:0"}}
	cfg.AdvertiseClientUrls = cfg.ListenClientUrls
	cert, key := a.issue("etcd")
	cfg.ClientTLSInfo = transport.TLSInfo{
		CertFile: cert, KeyFile: key, TrustedCAFile: a.file, ClientCertAuth: true,
	}
	cfg.BcryptCost = 4 // the least: a login is slow enough under the race detector
	server, err := embed.StartEtcd(cfg)
	require.NoError(tb, err)
	tb.Cleanup(server.Close)
	<-server.Server.ReadyNotify()
	endpoint = "https://" + server.Clients[0].Addr().String()

	cert, key = a.issue("operator")
	info := transport.TLSInfo{CertFile: cert, KeyFile: key, TrustedCAFile: a.file}
	tls, err := info.ClientConfig()
	require.NoError(tb, err)
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, TLS: tls})
	require.NoError(tb, err)
	defer client.Close()
	ctx := tb.Context()
	for _, step := range []func() error{
		func() error { _, err := client.UserAdd(ctx, "root", "root's"); return err },
		func() error { _, err := client.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := client.RoleAdd(ctx, "sluice"); return err },
		func() error {
			_, err := client.RoleGrantPermission(ctx, "sluice", "/mine/",
				clientv3.GetPrefixRangeEnd("/mine/"),
				clientv3.PermissionType(clientv3.PermReadWrite))
			return err
		},
		func() error { _, err := client.UserAdd(ctx, "sluice", "secret"); return err },
		func() error { _, err := client.UserGrantRole(ctx, "sluice", "sluice"); return err },
		func() error { _, err := client.AuthEnable(ctx); return err },
	} {
		require.NoError(tb, step())
	}
	return endpoint
}

func TestAnExternalEtcdBehindTLSAndAPassword(t *testing.T) {
	a := newAuthority(t)
	etcd := guarded(t, a)
	good := nodeAt(t, etcd, 0)
	good.Prefix, good.Username, good.Password = "/mine", "sluice", "secret"
	good.CA = a.file
	good.Cert, good.Key = a.issue("node")
	c := start(t, good)
	_, err := c.CreateTopic(t.Context(), TopicSpec{Name: "t"})
	require.NoError(t, err)

	_, _, err = c.Backup(t.Context())
	require.ErrorIs(t, err, fault.IllegalState, "the user may not see what others have")
	require.ErrorContains(t, err, "take it with etcd's own tools")

	stranger := newAuthority(t)
	const soon = 500 * time.Millisecond // where nothing answers
	refused := map[string]struct {
		change  func(*Config)
		timeout time.Duration
		want    string
	}{
		"wrong password": {
			func(c *Config) { c.Password = "guess" }, time.Minute,
			"--etcd-username sluice and --etcd-password are not taken",
		},
		"unknown user": {
			func(c *Config) { c.Username = "nobody" }, time.Minute,
			"--etcd-username nobody and --etcd-password are not taken",
		},
		"no user": {
			func(c *Config) { c.Username, c.Password = "", "" }, time.Minute,
			"give --etcd-username",
		},
		"another's prefix": {
			func(c *Config) { c.Prefix = "/others" }, time.Minute,
			"--etcd-username sluice may not use --etcd-prefix /others",
		},
		"no certificate":  {func(c *Config) { c.Cert, c.Key = "", "" }, soon, "--etcd-cert"},
		"a stranger's CA": {func(c *Config) { c.CA = stranger.file }, soon, "--etcd-ca"},
		"a stranger's cert": {
			func(c *Config) { c.Cert, c.Key = stranger.issue("x") }, soon,
			"--etcd-cert",
		},
		"no such CA": {func(c *Config) { c.CA = "/nowhere.pem" }, soon, "--etcd-ca"},
	}
	for name, test := range refused {
		t.Run(name, func(t *testing.T) {
			cfg := good
			cfg.DataDir, cfg.NodeID = t.TempDir(), 1
			cfg.StartTimeout = test.timeout
			test.change(&cfg)
			_, err := Start(t.Context(), cfg)
			require.ErrorContains(t, err, test.want)
			assert.NotContains(t, err.Error(), "secret")
		})
	}
	require.NoError(t, c.Err(), "the first node is unharmed")
}
