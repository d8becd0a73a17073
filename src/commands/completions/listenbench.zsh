#compdef listenbench
# Completion of listenbench in zsh.
_listenbench() {
    local -a lines values shown
    local line value paths
    lines=("${(@f)$("${(Q)words[1]}" complete -- "${(@Q)words[1,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
    paths=${lines[2]:-none}
    for line in "${(@)lines[3,-1]}"; do
        value=${line%%$'\t'*}
        values+=("$value")
        if [[ $line == *$'\t'* ]]; then
            shown+=("$value -- ${line#*$'\t'}")
        else
            shown+=("$value")
        fi
    done
    local -a joined
    # A key and a folder are followed by more.
    [[ ${#values} -eq 1 && $values[1] == *[=/\ ] ]] && joined=(-S '')
    ((${#values})) && compadd -l -d shown "${(@)joined}" -- "${(@)values}"
    case $paths in
        files) _files ;;
        folders) ((${#values})) || _files -/ ;;
    esac
}
if [[ ${funcstack[1]-} == _listenbench ]]; then
    _listenbench "$@"
else
    compdef _listenbench listenbench
fi
