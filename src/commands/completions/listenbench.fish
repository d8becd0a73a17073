# Completion of listenbench in fish.
function __listenbench_complete
    set -l words (commandline -opc)
    set -l word (commandline -ct)
    set -l lines ($words[1] complete -- $words (string unescape -- $word; or echo -- $word) 2>/dev/null)
    printf '%s\n' $lines[3..-1]
    switch "$lines[2]"
        case files
            __fish_complete_path $word
        case folders
            test (count $lines) -le 2; and __fish_complete_directories $word
    end
end
complete -c listenbench -f -a '(__listenbench_complete)'
