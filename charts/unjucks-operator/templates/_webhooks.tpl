{{- define "unjucks.webhooksSelector" -}}
app.kubernetes.io/name: unjucks
app.kubernetes.io/component: webhooks
{{- end }}

{{- define "unjucks.webhooksImage" -}}
{{ .Values.image.webhooks | default (printf "%s-webhooks:%s" .Values.image.repository (include "unjucks.tag" .)) }}
{{- end }}

{{/*
CEL: whether an update of a Tenant destroys or unlocks data. The same as unjucks_api.approvals.destructive_changes; where CEL cannot know
what the tier decides, it says yes and the webhook looks closer.
*/}}
{{- define "unjucks.destroys" -}}
(oldObject.?spec.?protected.orValue(false) && !object.?spec.?protected.orValue(false))
|| (oldObject.?spec.?deletionPolicy.orValue("Retain") != "Delete" && object.?spec.?deletionPolicy.orValue("Retain") == "Delete")
|| (oldObject.?spec.?database.?reclaimPolicy.orValue("Retain") != "Delete"
    && object.?spec.?database.?reclaimPolicy.orValue("Retain") == "Delete")
|| (object.?spec.?database.?reclaimPolicy.orValue("Retain") == "Delete"
    && (oldObject.?spec.?database.?mode.orValue("") == "Dedicated"
        || (!oldObject.?spec.?database.?mode.hasValue() && oldObject.?status.?database.?mode.orValue("") == "Dedicated"))
    && object.?spec.?database.?mode.orValue("") != "Dedicated"
    && (object.?spec.?database.?mode.hasValue() || oldObject.?spec.?database.?mode.hasValue()
        || ["starter", "professional", "enterprise"].indexOf(object.?spec.?tier.orValue("starter"))
           < ["starter", "professional", "enterprise"].indexOf(oldObject.?spec.?tier.orValue("starter"))))
|| (object.metadata.?annotations[?"unjucks.io/confirm-delete"].orValue("") != ""
    && object.metadata.?annotations[?"unjucks.io/confirm-delete"].orValue("")
       != oldObject.metadata.?annotations[?"unjucks.io/confirm-delete"].orValue(""))
{{- end }}
