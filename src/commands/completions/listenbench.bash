# Completion of listenbench in bash.
_listenbench() {
    local line word paths before rest quote i
    local -a lines
    mapfile -t lines < <("$1" complete "--line=${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
    word=${lines[0]-} paths=${lines[1]-none}
    COMPREPLY=()
    if [ "$paths" = files ] || { [ "$paths" = folders ] && ((${#lines[@]} == 2)); }; then
        # Bash quotes these itself, and replaces only what follows the last of = and :, where it divides words there.
        compopt -o filenames
        if [ "$paths" = files ]; then
            mapfile -t COMPREPLY < <(compgen -f -- "$2")
        else
            mapfile -t COMPREPLY < <(compgen -d -- "$2")
        fi
        before=${word%"$2"}
        for ((i = 2; i < ${#lines[@]}; i++)); do
            line=${lines[i]%%$'\t'*}
            COMPREPLY+=("${line#"$before"}")
        done
        return
    fi
    # What is typed stays as it is, and what is added is quoted as the quotation mark before it asks.
    quote=${COMP_LINE:0:COMP_POINT}
    quote=${quote%"$2"}
    quote=${quote: -1}
    for ((i = 2; i < ${#lines[@]}; i++)); do
        line=${lines[i]%%$'\t'*}
        rest=${line#"$word"}
        case $quote in
            \') rest=${rest//\'/"'\\''"} ;;
            \") rest=$(printf %s "$rest" | sed 's/[\\"$`]/\\&/g') ;;
            *) [ -z "$rest" ] || printf -v rest %q "$rest" ;;
        esac
        COMPREPLY+=("$2$rest")
    done
    case ${COMPREPLY[0]-} in
        *= | */) ((${#COMPREPLY[@]} == 1)) && compopt -o nospace ;;
    esac
}
complete -F _listenbench listenbench
