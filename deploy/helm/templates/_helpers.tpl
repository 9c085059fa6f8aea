{{- define "pulse-telemetry.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "pulse-telemetry.fullname" -}}
{{- $name := include "pulse-telemetry.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" (.Release.Name | trunc 46 | trimSuffix "-") $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "pulse-telemetry.selector" -}}
app.kubernetes.io/name: {{ include "pulse-telemetry.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "pulse-telemetry.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{ include "pulse-telemetry.selector" . }}
{{- end -}}

{{/* The Service of Pulse's chart: the release's name where that holds "pulse", as its own fullname is made. */}}
{{- define "pulse-telemetry.pulse" -}}
{{- if contains "pulse" .Values.pulse.release -}}
{{- .Values.pulse.release | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-pulse" .Values.pulse.release | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "pulse-telemetry.pulseUrl" -}}
{{- if contains "@" .Values.pulse.url -}}
{{- fail "pulse.url holds a login: Pulse is asked with the token alone" -}}
{{- end -}}
{{- default (printf "http://%s:7655" (include "pulse-telemetry.pulse" .)) .Values.pulse.url -}}
{{- end -}}

{{/* The port of that URL, which a scheme has of its own. */}}
{{- define "pulse-telemetry.pulsePort" -}}
{{- $url := urlParse (include "pulse-telemetry.pulseUrl" .) -}}
{{- $port := regexFind ":[0-9]+$" $url.host | trimPrefix ":" -}}
{{- default (ternary "443" "80" (eq $url.scheme "https")) $port -}}
{{- end -}}

{{/* The one address of that URL, where it has one and no name. */}}
{{- define "pulse-telemetry.pulseAddress" -}}
{{- $host := regexReplaceAll ":[0-9]+$" (urlParse (include "pulse-telemetry.pulseUrl" .)).host "" -}}
{{- if regexMatch "^([0-9]{1,3}[.]){3}[0-9]{1,3}$" $host -}}
{{- printf "%s/32" $host -}}
{{- else if hasPrefix "[" $host -}}
{{- printf "%s/128" (trimAll "[]" $host) -}}
{{- end -}}
{{- end -}}

{{- define "pulse-telemetry.tokenSecret" -}}
{{- if and .Values.token.value .Values.token.existingSecret -}}
{{- fail "token.value and token.existingSecret are both set: Pulse's API token is in one of them" -}}
{{- else if .Values.token.value -}}
{{- if .Values.token.organizations -}}
{{- fail "token.organizations names keys of a Secret that is there: set token.existingSecret" -}}
{{- end -}}
{{- printf "%s-token" (include "pulse-telemetry.fullname" .) -}}
{{- else -}}
{{- required "token.existingSecret names the Secret with Pulse's API token (or token.value is the token)" .Values.token.existingSecret -}}
{{- end -}}
{{- end -}}
