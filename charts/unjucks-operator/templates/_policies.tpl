{{/*
Parts of the ValidatingAdmissionPolicies. They are checked by the API server itself: they hold while all of ours is down. Fail closed:
failurePolicy Fail, no parameters that could be missing, allow-lists wherever a list is possible.
*/}}

{{/* The namespaces of tenants, by the label that the operator sets; never the system's or the platform's, whatever they are labelled. */}}
{{- define "unjucks.tenantNamespaces" -}}
namespaceSelector:
  matchExpressions:
    - {key: unjucks.io/tenant, operator: Exists}
    - {key: kubernetes.io/metadata.name, operator: NotIn, values: [kube-node-lease, kube-public, kube-system, {{ .Release.Namespace }}]}
{{- end }}

{{/* One binding for each policy; it only says Deny. */}}
{{- define "unjucks.policyBinding" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ .name }}
  labels: {{- include "unjucks.labels" .root | nindent 4 }}
spec:
  policyName: {{ .name }}
  validationActions: [Deny]
{{- end }}

{{/* Guards do not concern the operator, nor the people and programs that the platform exempts. */}}
{{- define "unjucks.policyExemptions" -}}
- name: not-the-operator
  expression: request.userInfo.username != "system:serviceaccount:{{ .Release.Namespace }}:unjucks-operator"
- name: not-exempt
  expression: >-
    !(has(request.userInfo.groups) && request.userInfo.groups.exists(group, group in {{ toJson .Values.policies.exemptGroups }}))
    && !(request.userInfo.username in {{ toJson .Values.policies.exemptUsers }})
{{- end }}

{{/* CEL list of the users under which named controllers of the cluster work; the last one is theirs when they share one identity. */}}
{{- define "unjucks.controllers" -}}
{{- $users := list }}
{{- range .names }}
{{- $users = append $users (printf "system:serviceaccount:kube-system:%s" .) }}
{{- end }}
{{- toJson (append $users "system:kube-controller-manager") -}}
{{- end }}

{{/* CEL list of "path[name]" of containers, of the given kinds, for which a test (on "c") does not hold. */}}
{{- define "unjucks.offenders" -}}
{{- $test := .test }}{{ $field := .field }}{{ $parts := list }}
{{- range .kinds }}
{{- $found := printf "object.spec.%s.filter(c, !(%s)).map(c, \"spec.%s[\" + c.name + \"].%s\")" . $test . $field }}
{{- if ne . "containers" }}{{ $found = printf "(has(object.spec.%s) ? %s : [])" . $found }}{{ end }}
{{- $parts = append $parts $found }}
{{- end }}
{{- join " + " $parts -}}
{{- end }}

{{/* CEL: the keys of a map of metadata ("labels", "annotations") that are new, changed or gone; nothing of it is there before a creation. */}}
{{- define "unjucks.changedKeys" -}}
variables.{{ . }}.filter(k, !(k in variables.{{ . }}Before) || variables.{{ . }}Before[k] != variables.{{ . }}[k]) + variables.{{ . }}Before.filter(k, !(k in variables.{{ . }}))
{{- end }}

{{/* CEL variables that "unjucks.changedKeys" needs, null-safe for creation and deletion. */}}
{{- define "unjucks.metadataVariables" -}}
- name: labels
  expression: "object != null && has(object.metadata.labels) ? object.metadata.labels : {}"
- name: labelsBefore
  expression: "oldObject != null && has(oldObject.metadata.labels) ? oldObject.metadata.labels : {}"
- name: annotations
  expression: "object != null && has(object.metadata.annotations) ? object.metadata.annotations : {}"
- name: annotationsBefore
  expression: "oldObject != null && has(oldObject.metadata.annotations) ? oldObject.metadata.annotations : {}"
{{- end }}

{{/* CEL: whether an object that is deleted carries the confirmation <name>@<date> of a person. CEL knows no clock: the date is for people. */}}
{{- define "unjucks.confirmed" -}}
has(oldObject.metadata.annotations) && "unjucks.io/confirm-delete" in oldObject.metadata.annotations
&& oldObject.metadata.annotations["unjucks.io/confirm-delete"].startsWith(oldObject.metadata.name + "@")
&& oldObject.metadata.annotations["unjucks.io/confirm-delete"].matches("@20[0-9]{2}-[01][0-9]-[0-3][0-9]$")
{{- end }}
