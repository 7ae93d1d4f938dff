package sluice_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/credentials"

	sluice "github.com/sluicelog/sluice/clients/go"
)

// certificate returns a certificate of its own for a name.
func certificate(t *testing.T, name string) (tls.Certificate, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name}, IsCA: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	parsed, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, parsed
}

// TestEachNodeIsKnownByItsOwnName: the certificate of a node is checked for the host of its
// address, whether it was given to Dial or learned.
func TestEachNodeIsKnownByItsOwnName(t *testing.T) {
	f := startCluster(t, 2, 2)
	roots := x509.NewCertPool()
	for i, name := range []string{"node0", "node1"} {
		pair, parsed := certificate(t, name)
		roots.AddCert(parsed)
		f.nodes[i].kill()
		f.nodes[i].credentials = credentials.NewServerTLSFromCert(&pair)
		f.nodes[i].start()
	}
	client := f.client(t, "node0:9092", sluice.WithTLS(&tls.Config{
		RootCAs: roots, MinVersion: tls.VersionTLS13,
	}))
	producer, err := client.NewProducer(sluice.WithPartitioner(sluice.ManualPartitioner))
	require.NoError(t, err)
	defer producer.Close()
	for p := range int32(2) {
		r := record("x")
		r.Partition = p
		_, err = producer.ProduceSync(t.Context(), r)
		require.NoError(t, err)
	}
	assert.Zero(t, f.strays)

	// A node that shows another's certificate is not believed.
	impostor, _ := certificate(t, "node1")
	f.nodes[0].kill()
	f.nodes[0].credentials = credentials.NewServerTLSFromCert(&impostor)
	f.nodes[0].start()
	wrong := f.client(t, "node0:9092", sluice.WithTLS(&tls.Config{
		RootCAs: roots, MinVersion: tls.VersionTLS13,
	}))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err = wrong.PartitionCount(ctx, "t")
	assert.ErrorContains(t, err, "certificate")
}
