// One HTTPS request with Go's crypto/tls; prints the body.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

func main() {
	url := flag.String("url", "", "what to request")
	address := flag.String("address", "", "where to connect instead of resolving the name")
	ca := flag.String("ca", "", "PEM file of the authority to trust")
	certificate := flag.String("cert", "", "PEM file of the client's certificate")
	key := flag.String("key", "", "PEM file of its key")
	flag.Parse()
	if err := request(*url, *address, *ca, *certificate, *key); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func request(url, address, ca, certificate, key string) error {
	roots, err := os.ReadFile(ca)
	if err != nil {
		return err
	}
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	if !config.RootCAs.AppendCertsFromPEM(roots) {
		return fmt.Errorf("no certificate in %s", ca)
	}
	if certificate != "" {
		identity, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			return err
		}
		config.Certificates = []tls.Certificate{identity}
	}
	dialer := &net.Dialer{Timeout: 30 * time.Second}
	client := &http.Client{
		Timeout: 30 * time.Second,
		Transport: &http.Transport{
			TLSClientConfig: config,
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, network, address)
			},
		},
	}
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", response.Status)
	}
	_, err = io.Copy(os.Stdout, response.Body)
	return err
}
