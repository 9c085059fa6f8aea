// Counts the elements of Pulse's /api/state as a Go program would: encoding/json into the leanest type there is.
package main

import (
	"encoding/json"
	"fmt"
	"os"
)

type state struct {
	Nodes              []struct{} `json:"nodes"`
	PBS                []struct{} `json:"pbs"`
	PMG                []struct{} `json:"pmg"`
	VMs                []struct{} `json:"vms"`
	Containers         []struct{} `json:"containers"`
	DockerHosts        []struct{} `json:"dockerHosts"`
	KubernetesClusters []struct{} `json:"kubernetesClusters"`
}

func main() {
	body, err := os.ReadFile(os.Args[1])
	var counted state
	if err == nil {
		err = json.Unmarshal(body, &counted)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(len(counted.VMs))
}
